-- Serve says which replicas of a model run. ARGV: model, then their ids. One that ran and is not among them is being stopped: no
-- prompt is given out for it any more, and it is told. One that was thought to leave and is among them stays after all.
-- A replica that is registered but has not been among them yet is starting. One that is not registered is dead, or was not heard
-- for a lease: if it comes back it hears then how it stands (register.lua). Returns how many leave.
local STOPPED_S = 3600
local model = ARGV[2]
local running, registered, leaving, changed = {}, {}, 0, false
for i = 3, #ARGV do running[ARGV[i]] = true end
for _, replica in ipairs(redis.call('ZRANGE', K.replicas(model), 0, -1)) do
  registered[replica] = true
  local before = redis.call('HGET', K.serving(model), replica)
  if running[replica] then
    if before ~= 'running' then redis.call('HSET', K.serving(model), replica, 'running') end
    -- It registers what it offers anew.
    if before == 'leaving' then redis.call('PUBLISH', K.doorbell(replica), 'stay') end
  elseif before then
    if before == 'running' then
      send_off(model, replica)
      changed = true
    end
    leaving = leaving + 1
  end
end
for _, replica in ipairs(redis.call('HKEYS', K.serving(model))) do
  if not registered[replica] then
    if running[replica] then
      redis.call('HSET', K.serving(model), replica, 'running')
    else
      redis.call('HDEL', K.serving(model), replica)
      redis.call('SET', K.stopped(replica), model, 'EX', STOPPED_S)
    end
  end
end
for i = 3, #ARGV do
  if redis.call('DEL', K.stopped(ARGV[i])) == 1 then redis.call('HSET', K.serving(model), ARGV[i], 'running') end
end
if changed then count_permits(model) end
return leaving
