-- Serve says which replicas of a model run. ARGV: model, then their ids. One that ran and is not among them is being stopped: no
-- prompt is given out for it any more, and it is told. One that was thought to leave and is among them stays after all.
-- A replica that is registered but has not been among them yet is starting. Returns how many leave.
local model = ARGV[2]
local running, leaving, changed = {}, 0, false
for i = 3, #ARGV do running[ARGV[i]] = true end
for _, replica in ipairs(redis.call('ZRANGE', K.replicas(model), 0, -1)) do
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
if changed then count_permits(model) end
return leaving
