-- Remove an API key of a user's. ARGV: user, id of the key. Returns its digest, or nil if the user has no such key.
local user, id = ARGV[2], ARGV[3]
local digest = redis.call('HGET', K.api_keys(user), id)
if not digest then return nil end
redis.call('HDEL', K.api_keys(user), id)
redis.call('DEL', K.api_key(digest))
return digest
