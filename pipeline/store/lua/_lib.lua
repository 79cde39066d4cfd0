-- Shared by every script; stands in front of it. K builds key names (pipeline/store/keys.py).

local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function int(n) return string.format('%.0f', n) end

local function contains(list, from, value)
  for i = from, #list do
    if list[i] == value then return true end
  end
  return false
end

-- Length of what a client wrote into a prompt; all else that a listing reads of it is short.
local function text_bytes(ref)
  local key = K.prompt(ref)
  return redis.call('HSTRLEN', key, 'prompt') + redis.call('HSTRLEN', key, 'parameters')
    + redis.call('HSTRLEN', key, 'engine_parameters')
end

-- Fields of a prompt that most transitions need.
local function load_prompt(ref)
  local v = redis.call('HMGET', K.prompt(ref), 'status', 'fence', 'user', 'thread', 'model', 'priority', 'created', 'place',
    'holder', 'crashes', 'id', 'node', 'cost', 'fallback')
  if not v[1] then return nil end
  return { ref = ref, status = v[1], fence = tonumber(v[2]), user = v[3], thread = v[3] .. '/' .. v[4], model = v[5],
    priority = v[6], created = v[7], place = v[8], holder = v[9] or '', crashes = tonumber(v[10] or '0'), id = v[11],
    node = v[12] or '', cost = v[13], fallback = v[14] }
end

-- The prompt, if `fence` still owns it; every write of an attempt passes through here. A write of an attempt that another one
-- has followed is counted: it says how often the fence was needed.
local function owned(ref, fence)
  local p = load_prompt(ref)
  if not p then return nil end
  if p.fence ~= tonumber(fence) then
    redis.call('HINCRBY', K.stats(p.model), 'stale_rejected', 1)
    return nil
  end
  if p.status ~= 'running' then return nil end
  return p
end

-- An event for the user's own subscriptions (pipeline/store/events.py): its name, then its data as field, value, …
-- It names the event in front of it, so that a reader sees whether some were cut off between the last one it has read and this one.
-- For users who have not listened lately nothing is written: the hot scripts pay one look at a key.
local function tell(user, name, ...)
  local kept_ms = redis.call('PTTL', K.listening(user))
  if kept_ms <= 0 then return end
  local last = redis.call('XREVRANGE', K.events(user), '+', '-', 'COUNT', 1)[1]
  redis.call('XADD', K.events(user), 'MAXLEN', '~', 1000, '*', 'name', name, 'after', last and last[1] or '0-0', ...)
  redis.call('PEXPIRE', K.events(user), kept_ms)
  redis.call('PUBLISH', K.events_bell(user), 0)
end

-- A replica is done with an attempt that it had begun; `why` says why without a result.
local function tell_finished(p, why)
  if p.holder == '' then return end
  if why then
    tell(p.user, 'promptProcessingFinished', 'promptId', p.id, 'error', why)
  else
    tell(p.user, 'promptProcessingFinished', 'promptId', p.id)
  end
end

local function set_status(p, status, now)
  redis.call('ZREM', K.by_status(p.status), p.ref)
  redis.call('ZREM', K.by_user_status(p.status, p.user), p.ref)
  redis.call('ZREM', K.by_thread_status(p.status, p.thread), p.ref)
  redis.call('ZADD', K.by_status(status), p.created, p.ref)
  redis.call('ZADD', K.by_user_status(status, p.user), p.created, p.ref)
  redis.call('ZADD', K.by_thread_status(status, p.thread), p.created, p.ref)
  redis.call('HSET', K.prompt(p.ref), 'status', status, 'updated', int(now))
  p.status = status
end

-- Prompt and thread ids are unique per user only, so that a name may have several users; most have one, and those cost no key of
-- their own.
local function use_name(first, others, name, user)
  if redis.call('HSETNX', first, name, user) == 0 and redis.call('HGET', first, name) ~= user then
    redis.call('ZADD', others, 0, user)
  end
end

local function leave_name(first, others, name, user)
  if redis.call('HGET', first, name) ~= user then
    redis.call('ZREM', others, user)
    return
  end
  local heir = redis.call('ZPOPMIN', others)[1]
  if heir then redis.call('HSET', first, name, heir) else redis.call('HDEL', first, name) end
end

-- Rings only for work that can be given out: a prompt waits and a permit is free. Under load one of them is missing most of the
-- time, and each ring costs every router a call of the ledger. Called last, when the transition is through.
local function wake(model)
  local s = redis.call('HMGET', K.stats(model), 'waiting', 'permits')
  if tonumber(s[1] or '0') > 0 and tonumber(s[2] or '0') > redis.call('ZCARD', K.leases(model)) then
    redis.call('PUBLISH', K.wake(model), '')
  end
end

-- What a queue's prompts that wait or run cost beyond 1000 thousandths each (pipeline/cost.py). For ordinary ones nothing is written.
local function count_cost(p, sign)
  if p.cost then redis.call('HINCRBY', K.stats(p.model), 'extra', sign * (tonumber(p.cost) - 1000)) end
end

-- Prompts that wait and may be moved to another model (move.lua).
local function count_movable(p)
  if p.fallback then redis.call('ZADD', K.movable(p.model), p.created, p.ref) end
end

local function forget_movable(p)
  if p.fallback then redis.call('ZREM', K.movable(p.model), p.ref) end
end

-- How long a model counts as being in a catalogue without a word of a router (vouch.lua), µs: longer than the ledger and the
-- replicas of a deploy that has ended go on.
local VOUCHED_US = 60000000

-- Prompts wait for this model from now on. Routers say which ones they have (vouch.lua); this one's may not have started yet.
local function note_model(model)
  redis.call('ZADD', K.models(), 'GT', int(now_us() + VOUCHED_US), model)
end

-- Queue order: priority, then users take turns, then time of acceptance. A user who joins goes behind all who wait already,
-- one prompt each; nothing is remembered of users who do not wait.
local function enqueue(p)
  redis.call('ZADD', K.waiting(p.priority, p.user, p.model), p.created, p.ref)
  local turns = K.turns(p.priority, p.model)
  if not redis.call('ZSCORE', turns, p.user) then
    redis.call('ZADD', turns, redis.call('HINCRBY', K.stats(p.model), 'turn', 1), p.user)
    redis.call('ZADD', K.priorities(p.model), p.priority, p.priority)
  end
  -- A model is forgotten only when nothing of it is open (close_departed.lua).
  if redis.call('HINCRBY', K.stats(p.model), 'waiting', 1) == 1 then note_model(p.model) end
  count_cost(p, 1)
  count_movable(p)
end

local function leave_turns(priority, user, model)
  if redis.call('EXISTS', K.waiting(priority, user, model)) == 0 then
    local turns = K.turns(priority, model)
    redis.call('ZREM', turns, user)
    if redis.call('EXISTS', turns) == 0 then redis.call('ZREM', K.priorities(model), priority) end
    return true
  end
  return false
end

-- The next prompt is out of the queue; its cost stays counted, since it runs from now on.
local function dequeue_next(model)
  local priority = redis.call('ZREVRANGE', K.priorities(model), 0, 0)[1]
  if not priority then return nil end
  local turns = K.turns(priority, model)
  local user = redis.call('ZRANGE', turns, 0, 0)[1]
  local ref = redis.call('ZPOPMIN', K.waiting(priority, user, model))[1]
  redis.call('HINCRBY', K.stats(model), 'waiting', -1)
  if not leave_turns(priority, user, model) then
    redis.call('ZADD', turns, redis.call('HINCRBY', K.stats(model), 'turn', 1), user)
  end
  return ref
end

-- Users whose waiting prompts a position counts one by one: each costs a call, and every accept waits for it.
local POSITION_USERS = 32

-- 1 for the waiting prompt that is granted next, 2 for the one behind it, …; 0 for a prompt that does not wait. It is the order of
-- dequeue_next if nothing else arrives: a user's prompt with n of their own in front goes out in round n, and every other user has
-- given at most n before it, one more if their turn comes first. Users beyond POSITION_USERS count as if they had that many, so
-- then the position is an upper bound.
local function queue_position(p)
  local own = redis.call('ZRANK', K.waiting(p.priority, p.user, p.model), p.ref)
  if not own then return 0 end
  local all = tonumber(redis.call('HGET', K.stats(p.model), 'waiting'))
  local ahead, left = own, POSITION_USERS
  for _, priority in ipairs(redis.call('ZREVRANGEBYSCORE', K.priorities(p.model), '+inf', '(' .. p.priority)) do
    local users = redis.call('ZRANGE', K.turns(priority, p.model), 0, left)
    if #users > left then return all end
    left = left - #users
    for _, user in ipairs(users) do ahead = ahead + redis.call('ZCARD', K.waiting(priority, user, p.model)) end
  end
  local turns = K.turns(p.priority, p.model)
  local turn = redis.call('ZRANK', turns, p.user)
  if own == 0 then return ahead + turn + 1 end
  local users = redis.call('ZRANGE', turns, 0, POSITION_USERS - 1)
  for i, user in ipairs(users) do
    if user ~= p.user then
      local given = i <= turn and own + 1 or own
      ahead = ahead + math.min(given, redis.call('ZCARD', K.waiting(p.priority, user, p.model)))
    end
  end
  return math.min(all, ahead + (redis.call('ZCARD', turns) - #users) * (own + 1) + 1)
end

local function dequeue(p)
  if redis.call('ZREM', K.waiting(p.priority, p.user, p.model), p.ref) == 1 then
    redis.call('HINCRBY', K.stats(p.model), 'waiting', -1)
    leave_turns(p.priority, p.user, p.model)
    count_cost(p, -1)
    forget_movable(p)
  end
  redis.call('ZREM', K.due(p.model), p.ref)
end

-- Entry ids of a log are our own counter, never the clock. The bell carries the entry (pipeline/store/bells.py, Ring): followers
-- that missed none need not read the log. Token ids are left out, they are for resuming.
local function log_append(p, fields, is_end)
  local n = redis.call('HINCRBY', K.prompt(p.ref), 'entries', 1)
  redis.call('XADD', K.log(p.ref), n .. '-0', unpack(fields))
  local shown = {}
  for i = 1, #fields, 2 do
    if fields[i] ~= 'i' then shown[fields[i]] = fields[i + 1] end
  end
  redis.call('PUBLISH', K.bell(p.thread), p.place .. ' ' .. n .. (is_end and ' end' or '') .. '\n' .. cjson.encode(shown))
end

-- A thread without prompts and messages is forgotten, unless it was made on purpose (save_thread.lua). What stays for a week is
-- the count of places: while a reader may come back with the id of an event, no other event may get that id.
local function forget_thread_if_empty(user, id)
  local thread = user .. '/' .. id
  if redis.call('EXISTS', K.thread_prompts(thread), K.thread_messages(thread)) > 0
    or redis.call('HEXISTS', K.thread(thread), 'conversation') == 1 then return end
  redis.call('HDEL', K.thread(thread), 'title', 'created', 'updated', 'topics')
  redis.call('EXPIRE', K.thread(thread), 7 * 24 * 3600)
  redis.call('ZREM', K.threads(user), id)
end

local function leave_lease(p)
  if redis.call('ZREM', K.leases(p.model), p.ref) == 1 then count_cost(p, -1) end
  redis.call('HDEL', K.prompt(p.ref), 'holder', 'node')
end

-- A prompt with history waits outside its queue, `blocked`, until all before it in its thread have ended (accept.lua).
local function unblock(ref, model)
  if redis.call('HDEL', K.prompt(ref), 'blocked') == 0 then return false end
  redis.call('HINCRBY', K.stats(model), 'blocked', -1)
  return true
end

-- One prompt at most can be next: it is then the first open one of the thread itself.
local function release_next(thread, model)
  local ref = redis.call('ZRANGE', K.thread_open(thread), 0, 0)[1]
  if not ref or redis.call('HEXISTS', K.prompt(ref), 'blocked') == 0 then return end
  local p = load_prompt(ref)
  unblock(ref, p.model)
  enqueue(p)
  -- Who closes a prompt wakes its model; the next one may be another's.
  if p.model ~= model then wake(p.model) end
end

-- The end of a prompt, whichever it is: nothing of it stays in a queue, its log gets its last entry, and the thread goes on.
local function close(p, status, now, fields)
  dequeue(p)
  unblock(p.ref, p.model)
  leave_lease(p)
  set_status(p, status, now)
  redis.call('ZADD', K.ended(status), int(now), p.ref)
  local is_picture = redis.call('HDEL', K.prompt(p.ref), 'tokens', 'sampling', 'image') == 3
  redis.call('HDEL', K.prompt(p.ref), 'fallback', 'fallback_tokens')
  redis.call('ZREM', K.thread_open(p.thread), p.ref)
  log_append(p, fields, true)
  -- What was seen of a picture while it was painted is of no use any more, and some of it is large.
  if is_picture then redis.call('XTRIM', K.log(p.ref), 'MAXLEN', 1) end
  release_next(p.thread, p.model)
end

local function has_ended(p)
  return p.status == 'completed' or p.status == 'abandoned' or p.status == 'canceled'
end

-- Remove a prompt that has ended, with its text: record, log, both messages, indexes. What it only refers to (files) would be let
-- go of here too: every way in which a prompt disappears leads through this function.
local function erase(p)
  local v = redis.call('HMGET', K.prompt(p.ref), 'message', 'prompt', 'thread')
  local message, text, thread_id = v[1], v[2], v[3]
  local title, conversation = unpack(redis.call('HMGET', K.thread(p.thread), 'title', 'conversation'))
  if title and not conversation and string.sub(text, 1, #title) == title then
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
  redis.call('ZREM', K.by_thread_status(p.status, p.thread), p.ref)
  redis.call('ZREM', K.ended(p.status), p.ref)
  leave_name(K.owner(), K.owners(p.id), p.id, p.user)
  -- A log may be long; the store frees it beside its other work.
  redis.call('UNLINK', K.prompt(p.ref), K.log(p.ref))
  if redis.call('EXISTS', K.thread_prompts(p.thread)) == 0 then
    leave_name(K.thread_owner(), K.thread_owners(thread_id), thread_id, p.user)
  end
  forget_thread_if_empty(p.user, thread_id)
  redis.call('PUBLISH', K.bell(p.thread), p.place .. ' end')
  tell(p.user, 'promptRemoved', 'promptId', p.id)
end

-- Back to the queue at its old place, without charge.
local function requeue(p, now)
  leave_lease(p)
  set_status(p, 'scheduled', now)
  enqueue(p)
end

-- The replica died under a running attempt. Two such deaths make the prompt a suspect: it is run alone from then on, and
-- abandoned if it kills that replica too.
local function crashed(p, now, counted)
  tell_finished(p, 'the replica that ran this prompt died')
  if counted then
    if p.crashes >= 2 then
      redis.call('HINCRBY', K.prompt(p.ref), 'crashes', 1)
      redis.call('HSET', K.prompt(p.ref), 'error', 'the replica died while it ran this prompt alone')
      close(p, 'abandoned', now, { 'k', 'end', 'r', 'error', 'e', 'the replica died while it ran this prompt alone' })
      return
    end
    redis.call('HINCRBY', K.prompt(p.ref), 'crashes', 1)
    redis.call('HSET', K.prompt(p.ref), 'error', 'the replica that ran this prompt died')
  end
  requeue(p, now)
end

-- Record a file whose blob is published, and charge what it really takes; `state` is the one it had. Returns when it was created.
local function keep_file(id, user, state, kind, digest, size, fields)
  local list = K.user_files(kind, user)
  -- Later than the one before, also within a microsecond or after the clock was set back: pages go by it.
  local latest = redis.call('ZREVRANGE', list, 0, 0, 'WITHSCORES')
  local created = int(math.max(now_us(), tonumber(latest[2] or '0') + 1))
  local reserved = tonumber(redis.call('HGET', K.file(id), 'size'))
  redis.call('HSET', K.file(id), 'state', 'kept', 'kind', kind, 'digest', digest, 'size', int(size), 'created', created,
    unpack(fields))
  redis.call('HINCRBY', K.file_usage(user), 'bytes', int(size - reserved))
  if state == 'writing' then redis.call('HINCRBY', K.file_usage(user), 'writing', -1) end
  redis.call('ZADD', list, created, id)
  redis.call('ZREM', K.unsettled_files(), id)
  return created
end

local function count_permits(model)
  local sum = 0
  for _, permits in ipairs(redis.call('HVALS', K.permits(model))) do sum = sum + tonumber(permits) end
  redis.call('HSET', K.stats(model), 'permits', sum)
end

-- What a replica that leaves still holds is all it offers, so that the others' free permits can be told.
local function send_off(model, replica)
  redis.call('HSET', K.serving(model), replica, 'leaving')
  redis.call('HSET', K.permits(model), replica, redis.call('HGET', K.used(model), replica) or 0)
  redis.call('PUBLISH', K.doorbell(replica), 'leave')
end

-- It offers nothing until it registers again. What Serve said of it is kept: it may be alive, and was only not heard.
local function drop_replica(model, replica)
  redis.call('ZREM', K.replicas(model), replica)
  redis.call('HDEL', K.permits(model), replica)
  redis.call('HDEL', K.nodes(model), replica)
  redis.call('HDEL', K.used(model), replica)
end

-- It is dead, or has said goodbye.
local function forget_replica(model, replica)
  drop_replica(model, replica)
  redis.call('HDEL', K.serving(model), replica)
  redis.call('DEL', K.stopped(replica))
end

-- Write down in an account the roles that its enrolls give, each with its app, in one field: who reads the account reads all of it
-- at once. Returns whether it has lost one by it.
local function note_roles(user, now)
  local had = redis.call('HGET', K.account(user), 'enrolled') or '[]'
  local has, seen = {}, {}
  for _, id in ipairs(redis.call('SMEMBERS', K.user_enrolls(user))) do
    local pair = redis.call('HMGET', K.enroll(id), 'role', 'app')
    local said = cjson.encode(pair)
    if not seen[said] then
      seen[said] = true
      has[#has + 1] = pair
    end
  end
  -- An empty table would be an object.
  redis.call('HSET', K.account(user), 'enrolled', #has > 0 and cjson.encode(has) or '[]',
    'updated_at', string.format('%.6f', now / 1000000))
  for _, pair in ipairs(cjson.decode(had)) do
    if not seen[cjson.encode(pair)] then return true end
  end
  return false
end
