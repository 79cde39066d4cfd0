-- The reply of a poll is out, or nothing of it was delivered. ARGV: job, channel, name of the poll, entries delivered altogether.
-- Returns 1, or 0 if the job is gone or another poll has followed.
local key, channel = K.pixel_job(ARGV[2]), ARGV[3]
if redis.call('HGET', key, channel .. '.poll') ~= ARGV[4] then return 0 end
redis.call('HSET', key, channel .. '.at', ARGV[5])
redis.call('HDEL', key, channel .. '.poll', channel .. '.until')
return 1
