-- Keep a new account unless its slug is taken. KEYS: slug, user. ARGV: id, then field, value, ...
-- Returns 1 if kept, 0 if taken.
if redis.call('SET', KEYS[1], ARGV[1], 'NX') == false then
  return 0
end
redis.call('HSET', KEYS[2], unpack(ARGV, 2))
return 1
