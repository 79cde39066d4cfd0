-- Complete a prompt: answer message, end of the log, status, all at once.
-- ARGV: ref, fence, message id, answer text, message meta (JSON), then the fields of the end entry.
-- Returns 1, or 0 if the attempt no longer owns the prompt.
local ref, fence, message, text, meta = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local p = owned(ref, fence)
if not p then return 0 end
local now = now_us()
local thread_id = redis.call('HGET', K.prompt(ref), 'thread')
redis.call('HSET', K.message(p.user .. '/' .. message), 'id', message, 'thread', thread_id, 'text', text,
  'created', int(now), 'meta', meta, 'prompt', ref)
redis.call('ZADD', K.thread_messages(p.thread), p.place * 2, message)
redis.call('HSET', K.prompt(ref), 'message', message, 'error', '')
local fields = { 'm', message }
for i = 7, #ARGV do fields[#fields + 1] = ARGV[i] end
tell(p.user, 'chatMessageAdded', 'threadId', thread_id)
close(p, 'completed', now, fields)
tell_finished(p)
wake(p.model)
return 1
