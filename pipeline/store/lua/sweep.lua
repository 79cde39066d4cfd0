-- What only time brings about: leases and replicas that expired, retries that are due.
-- ARGV: model; most prompts to touch; when the caller swept before (µs of the store's clock; 0: never, it goes by what another one
-- left here); how long ago that may be (µs); what replicas get if it is longer ago (µs; 0: nothing); then the ids of the nodes that
-- are alive: a replica that died with its node (or with the whole cluster) is not held against its prompts.
-- Returns {lost, handed back, promoted, replicas dropped, µs until the next retry is due or -1, when this was, 1 if it was too
-- long ago}.
-- Every prompt it touches leaves the set it was found in, so nothing that stays can starve what comes after it.
local model, most = ARGV[2], tonumber(ARGV[3])
local swept, patience, grace = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local now = now_us()
local lost, handed_back, promoted, dropped = 0, 0, 0, 0

-- A store that was away, or whose clock was set, cannot tell a replica that fell silent from one that could not be heard: each
-- begins a lease anew, and who is dead is told at its end. Deadlines are of the store's clock, so its clock alone decides. A
-- replica whose node is gone does not come back, and its prompts are not charged: those need not wait.
local left = tonumber(redis.call('HGET', K.stats(model), 'swept') or '0')
if swept == 0 then swept = left end
-- Not each time: it is a write to the disk.
if grace > 0 and (now < left or now - left > 1000000) then redis.call('HSET', K.stats(model), 'swept', int(now)) end
local unheard = grace > 0 and (now < swept or now - swept > patience)
if unheard then
  local lease = int(now + grace)
  for _, ref in ipairs(redis.call('ZRANGE', K.leases(model), 0, -1)) do
    local p = load_prompt(ref)
    if p and p.holder ~= '' and contains(ARGV, 7, p.node) then redis.call('ZADD', K.leases(model), lease, ref) end
  end
  for _, replica in ipairs(redis.call('ZRANGE', K.replicas(model), 0, -1)) do
    if contains(ARGV, 7, redis.call('HGET', K.nodes(model), replica)) then
      redis.call('ZADD', K.replicas(model), lease, replica)
    end
  end
end

local expired = redis.call('ZRANGEBYSCORE', K.leases(model), '-inf', int(now), 'LIMIT', 0, most)
for _, ref in ipairs(expired) do
  local p = load_prompt(ref)
  if not p or p.status ~= 'running' then
    redis.call('ZREM', K.leases(model), ref)
  elseif p.holder == '' then
    -- Granted, never claimed: the router died on the way. Nobody ran it.
    redis.call('HINCRBY', K.prompt(ref), 'runs', -1)
    requeue(p, now)
    handed_back = handed_back + 1
  else
    redis.call('PUBLISH', K.doorbell(p.holder), ref)
    crashed(p, now, contains(ARGV, 7, p.node))
    lost = lost + 1
  end
end

for _, replica in ipairs(redis.call('ZRANGEBYSCORE', K.replicas(model), '-inf', int(now))) do
  drop_replica(model, replica)
  dropped = dropped + 1
end
if dropped > 0 then count_permits(model) end

for _, ref in ipairs(redis.call('ZRANGEBYSCORE', K.due(model), '-inf', int(now), 'LIMIT', 0, most)) do
  redis.call('ZREM', K.due(model), ref)
  enqueue(load_prompt(ref))
  promoted = promoted + 1
end
if lost + handed_back + promoted > 0 then wake(model) end

local following = redis.call('ZRANGE', K.due(model), 0, 0, 'WITHSCORES')
local wait = -1
if following[2] then wait = math.max(0, tonumber(following[2]) - now) end
return { lost, handed_back, promoted, dropped, int(wait), int(now), unheard and 1 or 0 }
