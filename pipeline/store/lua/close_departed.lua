-- Abandon prompts of a model that has left every catalogue: nobody would grant them, or notice that a replica of it is dead.
-- ARGV: model, most, why. Returns how many were abandoned; as many as asked for: there may be more.
-- An attempt whose lease is alive goes on, and its fence wins: only when the lease is over is it closed here, and refused there.
-- What is blocked is closed once its thread has come to it.
local model, most, why = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local now = now_us()
local known = redis.call('ZSCORE', K.models(), model)
-- A router has it again, or another one has forgotten it.
if not known or tonumber(known) > now then return 0 end
local closed = 0

local function abandon(ref)
  local p = load_prompt(ref)
  if not p or has_ended(p) then
    redis.call('ZREM', K.leases(model), ref)
    return
  end
  if p.holder ~= '' then redis.call('PUBLISH', K.doorbell(p.holder), ref) end
  redis.call('HSET', K.prompt(ref), 'error', why)
  close(p, 'abandoned', now, { 'k', 'end', 'r', 'error', 'e', why })
  tell_finished(p, why)
  closed = closed + 1
end

-- Not at once: after an outage of the store no lease is alive, and nobody sweeps these to begin them anew.
for _, ref in ipairs(redis.call('ZRANGEBYSCORE', K.leases(model), '-inf', int(now - VOUCHED_US), 'LIMIT', 0, most)) do
  abandon(ref)
end
if closed < most then
  for _, ref in ipairs(redis.call('ZRANGE', K.due(model), 0, most - closed - 1)) do abandon(ref) end
end
while closed < most do
  local priority = redis.call('ZREVRANGE', K.priorities(model), 0, 0)[1]
  if not priority then break end
  local user = redis.call('ZRANGE', K.turns(priority, model), 0, 0)[1]
  abandon(redis.call('ZRANGE', K.waiting(priority, user, model), 0, 0)[1])
end
if closed > 0 then return closed end

for _, replica in ipairs(redis.call('ZRANGEBYSCORE', K.replicas(model), '-inf', int(now))) do forget_replica(model, replica) end
count_permits(model)
local stats = redis.call('HMGET', K.stats(model), 'waiting', 'blocked')
if tonumber(stats[1] or '0') + tonumber(stats[2] or '0') == 0 and redis.call('EXISTS', K.leases(model), K.replicas(model)) == 0 then
  redis.call('ZREM', K.models(), model)
end
return 0
