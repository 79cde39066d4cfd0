-- A router has these models in its catalogue. ARGV: the models.
-- Returns those that prompts wait for, or did, and that no router has had in its catalogue of late.
local now = now_us()
for i = 2, #ARGV do redis.call('ZADD', K.models(), int(now + VOUCHED_US), ARGV[i]) end
return redis.call('ZRANGEBYSCORE', K.models(), '-inf', int(now))
