-- A replica offers its permits. ARGV: model, replica, permits, node, lease (µs).
local model, replica, permits = ARGV[2], ARGV[3], ARGV[4]
if redis.call('DEL', K.stopped(replica)) == 1 then
  -- Serve stopped it while it could not be heard.
  redis.call('HSET', K.serving(model), replica, 'leaving')
end
if redis.call('HGET', K.serving(model), replica) == 'leaving' then
  -- Until its heartbeat, which follows, says what it holds.
  permits = redis.call('HGET', K.used(model), replica) or 0
end
redis.call('HSET', K.permits(model), replica, permits)
redis.call('HSET', K.nodes(model), replica, ARGV[5])
redis.call('ZADD', K.replicas(model), int(now_us() + tonumber(ARGV[6])), replica)
count_permits(model)
wake(model)
return 1
