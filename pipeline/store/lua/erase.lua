-- Remove a finished prompt with its text: record, log, both messages, indexes. ARGV: ref.
-- Returns 'missing', 'erased', or the status of a prompt that has not ended.
local p = load_prompt(ARGV[2])
if not p then return 'missing' end
if p.status ~= 'completed' and p.status ~= 'abandoned' and p.status ~= 'canceled' then return p.status end
local message = redis.call('HGET', K.prompt(p.ref), 'message')
local title = redis.call('HGET', K.thread(p.thread), 'title')
if title and string.sub(redis.call('HGET', K.prompt(p.ref), 'prompt'), 1, #title) == title then
  -- It is the beginning of this prompt.
  redis.call('HDEL', K.thread(p.thread), 'title')
end
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
  -- What stays for a week is the count of places: while a reader may come back with the id of an event, no other event may
  -- get that id.
  redis.call('HDEL', K.thread(p.thread), 'title', 'created', 'updated')
  redis.call('EXPIRE', K.thread(p.thread), 7 * 24 * 3600)
end
redis.call('PUBLISH', K.bell(p.thread), p.place .. ' end')
tell(p.user, 'promptRemoved', 'promptId', p.id)
return 'erased'
