-- Store a prompt and queue it, once. ARGV: ref, title for a new thread, then the record as field, value, …
-- (pipeline.prompt.NewPrompt.to_record). Returns {1, what the store added to the record} or, for an id that was there already,
-- {0, the record}; both as HGETALL gives them.
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
local now = int(now_us())
local seq = redis.call('INCR', K.seq())
local thread = record.user .. '/' .. record.thread
local place = redis.call('HINCRBY', K.thread(thread), 'place', 1)
redis.call('PERSIST', K.thread(thread))
redis.call('HSETNX', K.thread(thread), 'title', title)
redis.call('HSETNX', K.thread(thread), 'created', now)
redis.call('HSET', K.thread(thread), 'updated', now)

local added = { 'status', 'scheduled', 'seq', seq, 'place', place, 'created', now, 'updated', now,
  'last_run', 0, 'runs', 0, 'failures', 0, 'crashes', 0, 'fence', 0, 'entries', 0 }
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

enqueue({ ref = ref, user = record.user, model = record.model, priority = record.priority, seq = seq })
tell(record.user, 'promptAdded', 'promptId', record.id)
wake(record.model)
redis.call('PUBLISH', K.bell(thread), place)
return { 1, added }
