-- Keep a new API key. ARGV: digest of the key, id, user, name, prefix, most keys of a user.
-- Returns when it was made (µs), or 0 if the user has as many as there may be.
local digest, id, user, name, prefix, most = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
-- A call whose reply was lost is sent again; ids are never used twice.
if redis.call('HEXISTS', K.api_keys(user), id) == 1 then return redis.call('HGET', K.api_key(digest), 'created') end
if redis.call('HLEN', K.api_keys(user)) >= most then return '0' end
local now = int(now_us())
redis.call('HSET', K.api_key(digest), 'id', id, 'user', user, 'name', name, 'prefix', prefix, 'created', now)
redis.call('HSET', K.api_keys(user), id, digest)
return now
