-- Drop what a pixel job has written and nobody has read. ARGV: job, session, then channels. The end is kept: a client that waits for
-- it must see it. Returns 1, or 0 if the session has no such job.
local key = K.pixel_job(ARGV[2])
local v = redis.call('HMGET', key, 'session', 'ref')
if v[1] ~= ARGV[3] then return 0 end
local p = v[2] ~= '' and load_prompt(v[2])
if not p then return 1 end
local at = tonumber(redis.call('HGET', K.prompt(v[2]), 'entries')) - (has_ended(p) and 1 or 0)
for i = 4, #ARGV do
  if tonumber(redis.call('HGET', key, ARGV[i] .. '.at') or '0') < at then
    redis.call('HSET', key, ARGV[i] .. '.at', at)
    redis.call('HDEL', key, ARGV[i] .. '.poll', ARGV[i] .. '.until')
  end
end
return 1
