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

-- Fields of a prompt that most transitions need.
local function load_prompt(ref)
  local v = redis.call('HMGET', K.prompt(ref), 'status', 'fence', 'user', 'thread', 'model', 'priority', 'seq', 'place',
    'holder', 'crashes', 'id', 'node')
  if not v[1] then return nil end
  return { ref = ref, status = v[1], fence = tonumber(v[2]), user = v[3], thread = v[3] .. '/' .. v[4], model = v[5],
    priority = v[6], seq = v[7], place = v[8], holder = v[9] or '', crashes = tonumber(v[10] or '0'), id = v[11],
    node = v[12] or '' }
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

local function set_status(p, status, now)
  redis.call('ZREM', K.by_status(p.status), p.ref)
  redis.call('ZREM', K.by_user_status(p.status, p.user), p.ref)
  redis.call('ZADD', K.by_status(status), p.seq, p.ref)
  redis.call('ZADD', K.by_user_status(status, p.user), p.seq, p.ref)
  redis.call('HSET', K.prompt(p.ref), 'status', status, 'updated', int(now))
  p.status = status
end

-- Rings only for work that can be given out: a prompt waits and a permit is free. Under load one of them is missing most of the
-- time, and each ring costs every router a call of the ledger. Called last, when the transition is through.
local function wake(model)
  local s = redis.call('HMGET', K.stats(model), 'waiting', 'permits')
  if tonumber(s[1] or '0') > 0 and tonumber(s[2] or '0') > redis.call('ZCARD', K.leases(model)) then
    redis.call('PUBLISH', K.wake(model), '')
  end
end

-- Queue order: priority, then users take turns, then time of acceptance. A user who joins goes behind all who wait already,
-- one prompt each; nothing is remembered of users who do not wait.
local function enqueue(p)
  redis.call('ZADD', K.waiting(p.priority, p.user, p.model), p.seq, p.ref)
  local turns = K.turns(p.priority, p.model)
  if not redis.call('ZSCORE', turns, p.user) then
    redis.call('ZADD', turns, redis.call('HINCRBY', K.stats(p.model), 'turn', 1), p.user)
    redis.call('ZADD', K.priorities(p.model), p.priority, p.priority)
  end
  redis.call('HINCRBY', K.stats(p.model), 'waiting', 1)
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

local function dequeue(p)
  if redis.call('ZREM', K.waiting(p.priority, p.user, p.model), p.ref) == 1 then
    redis.call('HINCRBY', K.stats(p.model), 'waiting', -1)
    leave_turns(p.priority, p.user, p.model)
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

local function leave_lease(p)
  redis.call('ZREM', K.leases(p.model), p.ref)
  redis.call('HDEL', K.prompt(p.ref), 'holder', 'node')
end

-- The end of a prompt, whichever it is: nothing of it stays in a queue, its log gets its last entry.
local function close(p, status, now, fields)
  dequeue(p)
  leave_lease(p)
  set_status(p, status, now)
  redis.call('HDEL', K.prompt(p.ref), 'tokens', 'sampling')
  redis.call('ZREM', K.thread_open(p.thread), p.ref)
  log_append(p, fields, true)
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

local function count_permits(model)
  local sum = 0
  for _, permits in ipairs(redis.call('HVALS', K.permits(model))) do sum = sum + tonumber(permits) end
  redis.call('HSET', K.stats(model), 'permits', sum)
end

local function forget_replica(model, replica)
  redis.call('ZREM', K.replicas(model), replica)
  redis.call('HDEL', K.permits(model), replica)
  redis.call('HDEL', K.nodes(model), replica)
  redis.call('HDEL', K.used(model), replica)
end
