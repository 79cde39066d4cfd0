-- An API key is used. ARGV: its digest, how often the time of its use is written (µs).
-- Returns its record as HGETALL gives it, empty if there is no such key.
local key, every = K.api_key(ARGV[2]), tonumber(ARGV[3])
local record = redis.call('HGETALL', key)
if #record == 0 then return record end
local now = now_us()
if now - tonumber(redis.call('HGET', key, 'used') or '0') >= every then redis.call('HSET', key, 'used', int(now)) end
return record
