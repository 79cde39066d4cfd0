-- Give a session another insight. ARGV: session, insight, most insights, life of the session (s).
-- Returns 1, or 0 if it has as many as it may.
local key = K.pixel_session(ARGV[2])
-- One that is open already: a call whose reply was lost is sent again.
if redis.call('HEXISTS', key, 'i:' .. ARGV[3]) == 0 and redis.call('HLEN', key) >= tonumber(ARGV[4]) then return 0 end
redis.call('HSET', key, 'i:' .. ARGV[3], int(now_us()))
redis.call('EXPIRE', key, ARGV[5])
return 1
