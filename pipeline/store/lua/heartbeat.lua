-- A replica is alive and works on its leases. ARGV: model, replica, lease (µs), permits in use,
-- then ref, fence, ….
-- Returns {0} if the replica is not registered, else {1, refs it no longer owns…}, or {2, …} if it is to leave.
local model, replica, lease_us = ARGV[2], ARGV[3], tonumber(ARGV[4])
if not redis.call('ZSCORE', K.replicas(model), replica) then return { 0 } end
local deadline = int(now_us() + lease_us)
redis.call('ZADD', K.replicas(model), deadline, replica)
redis.call('HSET', K.used(model), replica, ARGV[5])
local answer = { 1 }
if redis.call('HGET', K.serving(model), replica) == 'leaving' then
  answer[1] = 2
  redis.call('HSET', K.permits(model), replica, ARGV[5])
  count_permits(model)
end
for i = 6, #ARGV, 2 do
  local p = owned(ARGV[i], ARGV[i + 1])
  if p and p.holder == replica then
    redis.call('ZADD', K.leases(model), deadline, p.ref)
  else
    answer[#answer + 1] = ARGV[i]
  end
end
return answer
