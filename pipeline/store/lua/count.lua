-- How many entries several indexes have together, at one moment. ARGV: lowest and highest score, indexes….
local sum = 0
for i = 4, #ARGV do sum = sum + redis.call('ZCOUNT', ARGV[i], ARGV[2], ARGV[3]) end
return sum
