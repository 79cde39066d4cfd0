-- Create or replace a user's template. ARGV: user, name, template, most templates a user may have.
-- Returns {time of creation, now} in µs, or {} if the user has that many already.
local key, name = K.templates(ARGV[2]), ARGV[3]
local kept = redis.call('HGET', key, name)
if not kept and redis.call('HLEN', key) >= tonumber(ARGV[5]) then return {} end
local now = int(now_us())
local created = kept and string.match(kept, '^%d+') or now
redis.call('HSET', key, name, created .. ' ' .. now .. ' ' .. ARGV[4])
return { created, now }
