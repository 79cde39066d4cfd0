-- An attempt ended in an error. ARGV: ref, fence, error, delay (µs; negative: give up), then, for giving up, the fields of
-- the end entry. Returns 1, or 0 if the attempt no longer owns the prompt.
local ref, fence, message, delay_us = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local p = owned(ref, fence)
if not p then return 0 end
local now = now_us()
redis.call('HINCRBY', K.prompt(ref), 'failures', 1)
redis.call('HSET', K.prompt(ref), 'error', message)
if delay_us < 0 then
  local fields = {}
  for i = 6, #ARGV do fields[#fields + 1] = ARGV[i] end
  close(p, 'abandoned', now, fields)
else
  leave_lease(p)
  set_status(p, 'errored', now)
  redis.call('ZADD', K.due(p.model), int(now + delay_us), ref)
end
tell_finished(p, message)
wake(p.model)
return 1
