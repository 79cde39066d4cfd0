-- Remove a finished prompt with its text: record, log, both messages, indexes. ARGV: ref.
-- Returns 'missing', 'erased', or the status of a prompt that has not ended.
local p = load_prompt(ARGV[2])
if not p then return 'missing' end
if p.status ~= 'completed' and p.status ~= 'abandoned' and p.status ~= 'canceled' then return p.status end
local message = redis.call('HGET', K.prompt(p.ref), 'message')
for _, id in ipairs({ p.id, message or '' }) do
  redis.call('DEL', K.message(p.user .. '/' .. id))
  redis.call('ZREM', K.thread_messages(p.thread), id)
end
redis.call('ZREM', K.thread_prompts(p.thread), p.ref)
redis.call('ZREM', K.all(), p.ref)
redis.call('ZREM', K.by_status(p.status), p.ref)
redis.call('ZREM', K.by_user(p.user), p.ref)
redis.call('ZREM', K.by_user_status(p.status, p.user), p.ref)
if redis.call('HGET', K.owner(), p.id) == p.user then redis.call('HDEL', K.owner(), p.id) end
redis.call('DEL', K.prompt(p.ref), K.log(p.ref))
if redis.call('EXISTS', K.thread_prompts(p.thread), K.thread_messages(p.thread)) == 0 then
  -- The title is the beginning of the first prompt. The counter of places stays: they are half of every event's id, and one
  -- given out twice would let a subscriber skip the beginning of an answer.
  redis.call('HDEL', K.thread(p.thread), 'title', 'created', 'updated')
end
redis.call('PUBLISH', K.bell(p.thread), p.place .. ' end')
return 'erased'
