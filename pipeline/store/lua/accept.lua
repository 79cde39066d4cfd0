-- Store a prompt and queue it, once. ARGV: ref, title for a new thread, then the record as field, value, …
-- (pipeline.prompt.NewPrompt.to_record). Returns {1, what the store added to the record, its position} or, for an id that was there
-- already, {0, the record, its position}; records as HGETALL gives them, the position as in position.lua.
-- {2} if a chat message that belongs to no prompt has the id, {3} if the disk is nearly full.
local ref, title = ARGV[2], ARGV[3]
if redis.call('EXISTS', K.prompt(ref)) == 1 then
  return { 0, redis.call('HGETALL', K.prompt(ref)), queue_position(load_prompt(ref)) }
end
if redis.call('EXISTS', K.full()) == 1 then return { 3 } end
local fields, record = {}, {}
for i = 4, #ARGV, 2 do
  fields[#fields + 1] = ARGV[i]
  fields[#fields + 1] = ARGV[i + 1]
  record[ARGV[i]] = ARGV[i + 1]
end
if redis.call('EXISTS', K.message(record.user .. '/' .. record.id)) == 1 then return { 2 } end
-- Never the same twice and never back, whatever the clock does: the time of creation is the order of acceptance, the score in
-- every index and the cursor of a listing.
local now = int(math.max(now_us(), tonumber(redis.call('GET', K.seq()) or '0') + 1))
redis.call('SET', K.seq(), now)
local thread = record.user .. '/' .. record.thread
local place = redis.call('HINCRBY', K.thread(thread), 'place', 1)
redis.call('PERSIST', K.thread(thread))
redis.call('HSETNX', K.thread(thread), 'title', title)
if redis.call('HSETNX', K.thread(thread), 'created', now) == 1 then
  redis.call('ZADD', K.threads(record.user), now, record.thread)
  tell(record.user, 'chatThreadAdded', 'threadId', record.thread)
end
redis.call('HSET', K.thread(thread), 'updated', now)

-- With history: it runs once all before it have ended, and a replica renders it anew then (claim.lua). The request says so, or
-- the thread, if it was made as a conversation.
local history = record.history or redis.call('HGET', K.thread(thread), 'conversation') or '0'
local blocked = history == '1' and redis.call('EXISTS', K.thread_open(thread)) == 1

local added = { 'status', 'scheduled', 'place', place, 'created', now, 'updated', now,
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
use_name(K.owner(), K.owners(record.id), record.id, record.user)
use_name(K.thread_owner(), K.thread_owners(record.thread), record.thread, record.user)
redis.call('ZADD', K.all(), now, ref)
redis.call('ZADD', K.by_status('scheduled'), now, ref)
redis.call('ZADD', K.by_user(record.user), now, ref)
redis.call('ZADD', K.by_user_status('scheduled', record.user), now, ref)
redis.call('ZADD', K.by_thread_status('scheduled', thread), now, ref)
redis.call('ZADD', K.thread_prompts(thread), place, ref)
redis.call('ZADD', K.thread_open(thread), place, ref)

-- The user's chat message has the prompt's id (contract 1backend §1.5).
redis.call('HSET', K.message(record.user .. '/' .. record.id), 'id', record.id, 'thread', record.thread,
  'text', record.prompt, 'user', record.user, 'created', now, 'prompt', ref)
if record.file_ids then redis.call('HSET', K.message(record.user .. '/' .. record.id), 'files', record.file_ids) end
redis.call('ZADD', K.thread_messages(thread), place * 2 - 1, record.id)

tell(record.user, 'chatMessageAdded', 'threadId', record.thread)
tell(record.user, 'promptAdded', 'promptId', record.id)

if blocked then
  if redis.call('HINCRBY', K.stats(record.model), 'blocked', 1) == 1 then note_model(record.model) end
else
  enqueue({ ref = ref, user = record.user, model = record.model, priority = record.priority, created = now,
    cost = record.cost, fallback = record.fallback })
  wake(record.model)
end
redis.call('PUBLISH', K.bell(thread), place)
return { 1, added, queue_position(load_prompt(ref)) }
