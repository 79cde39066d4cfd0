-- A replica offers its permits. ARGV: model, replica, permits, node, lease (µs).
local model, replica = ARGV[2], ARGV[3]
redis.call('HSET', K.permits(model), replica, ARGV[4])
redis.call('HSET', K.nodes(model), replica, ARGV[5])
redis.call('ZADD', K.replicas(model), int(now_us() + tonumber(ARGV[6])), replica)
count_permits(model)
wake(model)
return 1
