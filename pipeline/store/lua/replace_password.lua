-- Set another password hash if the account still has the expected one; tokens issued so far are worthless then. KEYS: user.
-- ARGV: expected, new, updated_at. Returns 1 if set, 0 if not.
local kept = redis.call('HGET', KEYS[1], 'password_hash')
-- A call whose reply was lost is sent again; no hash is made twice.
if kept == ARGV[2] then return 1 end
if kept ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'password_hash', ARGV[2], 'updated_at', ARGV[3])
redis.call('HINCRBY', KEYS[1], 'tokens', 1)
return 1
