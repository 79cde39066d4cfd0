-- Keep a new account unless its slug is taken. KEYS: slug, user, all users. ARGV: id, created (µs), then field, value, ...
-- Returns 1 if kept, 0 if taken.
if redis.call('SET', KEYS[1], ARGV[1], 'NX') == false then
  -- A call whose reply was lost is sent again; ids are never used twice.
  return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
end
redis.call('HSET', KEYS[2], unpack(ARGV, 3))
-- Pages of the list go on behind a time: no two users have the same one.
local created = tonumber(ARGV[2])
for _ = 1, 1000 do
  if redis.call('ZCOUNT', KEYS[3], created, created) == 0 then break end
  created = created + 1
end
redis.call('ZADD', KEYS[3], created, ARGV[1])
return 1
