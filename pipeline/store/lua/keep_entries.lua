-- Set entries of a small table, all or none. ARGV: the table's name, most entries it may have, then id, record, ...
-- An empty record removes. Returns how many entries changed, -1 if it would have more than it may.
local key, added, changed = K[ARGV[2]](), 0, 0
for i = 4, #ARGV, 2 do
  if redis.call('HEXISTS', key, ARGV[i]) == 0 then
    if ARGV[i + 1] ~= '' then added = added + 1 end
  elseif ARGV[i + 1] == '' then
    added = added - 1
  end
end
if added > 0 and redis.call('HLEN', key) + added > tonumber(ARGV[3]) then return -1 end
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    changed = changed + redis.call('HDEL', key, ARGV[i])
  else
    redis.call('HSET', key, ARGV[i], ARGV[i + 1])
    changed = changed + 1
  end
end
return changed
