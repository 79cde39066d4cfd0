-- Store a prompt and queue it, once. ARGV: ref, title for a new thread, then the record as field, value, …
-- (pipeline.prompt.NewPrompt.to_record). Returns {1, what the store added to the record} or, for an id that was there already,
-- {0, the record}; both as HGETALL gives them. {2} if a chat message that belongs to no prompt has the id.
local ref, title = ARGV[2], ARGV[3]
if redis.call('EXISTS', K.prompt(ref)) == 1 then
  return { 0, redis.call('HGETALL', K.prompt(ref)) }
end
local fields, record = {}, {}
for i = 4, #ARGV, 2 do
  fields[#fields + 1] = ARGV[i]
  fields[#fields + 1] = ARGV[i + 1]
  record[ARGV[i]] = ARGV[i + 1]
end
if redis.call('EXISTS', K.message(record.user .. '/' .. record.id)) == 1 then return { 2, {} } end
local now = int(now_us())
local seq = redis.call('INCR', K.seq())
local thread = record.user .. '/' .. record.thread
local place = redis.call('HINCRBY', K.thread(thread), 'place', 1)
redis.call('PERSIST', K.thread(thread))
redis.call('HSETNX', K.thread(thread), 'title', title)
if redis.call('HSETNX', K.thread(thread), 'created', now) == 1 then
  redis.call('ZADD', K.threads(record.user), now, record.thread)
  tell_chat(record.user, 'chatThreadAdded', record.thread)
end
redis.call('HSET', K.thread(thread), 'updated', now)

-- With history: it runs once all before it have ended, and a replica renders it anew then (claim.lua). The request says so, or
-- the thread, if it was made as a conversation.
local history = record.history or redis.call('HGET', K.thread(thread), 'conversation') or '0'
local blocked = history == '1' and redis.call('EXISTS', K.thread_open(thread)) == 1

local added = { 'status', 'scheduled', 'seq', seq, 'place', place, 'created', now, 'updated', now,
  'last_run', 0, 'runs', 0, 'failures', 0, 'crashes', 0, 'fence', 0, 'entries', 0, 'history', history }
if blocked then
  added[#added + 1] = 'blocked'
  added[#added + 1] = 1
end
for i = 1, #added do
  added[i] = tostring(added[i])
  fields[#fields + 1] = added[i]
end
redis.call('HSET', K.prompt(ref), unpack(fields))
redis.call('HSETNX', K.owner(), record.id, record.user)
redis.call('ZADD', K.all(), seq, ref)
redis.call('ZADD', K.by_status('scheduled'), seq, ref)
redis.call('ZADD', K.by_user(record.user), seq, ref)
redis.call('ZADD', K.by_user_status('scheduled', record.user), seq, ref)
redis.call('ZADD', K.thread_prompts(thread), place, ref)
redis.call('ZADD', K.thread_open(thread), place, ref)

-- The user's chat message has the prompt's id (contract 1backend §1.5).
redis.call('HSET', K.message(record.user .. '/' .. record.id), 'id', record.id, 'thread', record.thread,
  'text', record.prompt, 'user', record.user, 'created', now, 'prompt', ref)
redis.call('ZADD', K.thread_messages(thread), place * 2 - 1, record.id)

tell_chat(record.user, 'chatMessageAdded', record.thread)

if blocked then
  redis.call('HINCRBY', K.stats(record.model), 'blocked', 1)
else
  enqueue({ ref = ref, user = record.user, model = record.model, priority = record.priority, seq = seq })
  wake(record.model)
end
redis.call('PUBLISH', K.bell(thread), place)
return { 1, added }
