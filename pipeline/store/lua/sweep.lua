-- What only time brings about: leases and replicas that expired, retries that are due.
-- ARGV: model, most prompts to touch, then the ids of the nodes that are alive: a replica that died with its node (or with the
-- whole cluster) is not held against its prompts.
-- Returns {lost, handed back, promoted, replicas dropped, µs until the next retry is due or -1}.
-- Every prompt it touches leaves the set it was found in, so nothing that stays can starve what comes after it.
local model, most = ARGV[2], tonumber(ARGV[3])
local now = now_us()
local lost, handed_back, promoted, dropped = 0, 0, 0, 0

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
    crashed(p, now, contains(ARGV, 4, p.node))
    lost = lost + 1
  end
end

for _, replica in ipairs(redis.call('ZRANGEBYSCORE', K.replicas(model), '-inf', int(now))) do
  forget_replica(model, replica)
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
return { lost, handed_back, promoted, dropped, int(wait) }
