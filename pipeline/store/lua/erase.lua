-- Remove a finished prompt with its text: record, log, both messages, indexes. ARGV: ref.
-- Returns 'missing', 'erased', or the status of a prompt that has not ended.
local p = load_prompt(ARGV[2])
if not p then return 'missing' end
if p.status ~= 'completed' and p.status ~= 'abandoned' and p.status ~= 'canceled' then return p.status end
local message = redis.call('HGET', K.prompt(p.ref), 'message')
local title, conversation = unpack(redis.call('HMGET', K.thread(p.thread), 'title', 'conversation'))
if title and not conversation and string.sub(redis.call('HGET', K.prompt(p.ref), 'prompt'), 1, #title) == title then
  -- It is the beginning of this prompt.
  redis.call('HDEL', K.thread(p.thread), 'title')
end
for _, id in ipairs({ p.id, message or '' }) do
  -- Not one that was posted by hand in the place of a deleted one.
  if redis.call('HGET', K.message(p.user .. '/' .. id), 'prompt') == p.ref then
    redis.call('DEL', K.message(p.user .. '/' .. id))
    redis.call('ZREM', K.thread_messages(p.thread), id)
  end
end
redis.call('ZREM', K.thread_prompts(p.thread), p.ref)
redis.call('ZREM', K.all(), p.ref)
redis.call('ZREM', K.by_status(p.status), p.ref)
redis.call('ZREM', K.by_user(p.user), p.ref)
redis.call('ZREM', K.by_user_status(p.status, p.user), p.ref)
if redis.call('HGET', K.owner(), p.id) == p.user then redis.call('HDEL', K.owner(), p.id) end
redis.call('DEL', K.prompt(p.ref), K.log(p.ref))
forget_thread_if_empty(p.user, string.sub(p.thread, #p.user + 2))
redis.call('PUBLISH', K.bell(p.thread), p.place .. ' end')
return 'erased'
