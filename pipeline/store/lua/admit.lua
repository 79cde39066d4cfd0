-- Admit one request under several limits, or count it under none. ARGV: counter, most, window in us, ... for each limit.
-- Returns {us until it would be admitted, number of the limit that says so}; {0, 0} if it is admitted.
--
-- A window is cut into SLOTS slots and a request counts until its whole slot has left the window: no window of that length,
-- wherever it begins, ever holds more than `most`, and a counter holds at most SLOTS + 2 numbers, however large `most` is.
local SLOTS = 60
local now = now_us()
local limits, wait, which = {}, 0, 0
for i = 2, #ARGV, 3 do
  local limit = { key = K.rate(ARGV[i]), most = tonumber(ARGV[i + 1]), window = tonumber(ARGV[i + 2]), old = {} }
  limit.slot = math.ceil(limit.window / SLOTS)
  limit.current = math.floor(now / limit.slot)
  local oldest = math.floor((now - limit.window) / limit.slot)
  local counts, sum, newest = {}, 0, 0
  local stored = redis.call('HGETALL', limit.key)
  for j = 1, #stored, 2 do
    local number, count = tonumber(stored[j]), tonumber(stored[j + 1])
    if number < oldest then
      limit.old[#limit.old + 1] = stored[j]
    else
      counts[#counts + 1] = { number = number, count = count }
      sum = sum + count
      newest = math.max(newest, number)
    end
  end
  if newest > limit.current then
    -- The store's clock was set back. What is counted counts as of now, else it would stay for longer than a window.
    redis.call('DEL', limit.key)
    redis.call('HSET', limit.key, int(limit.current), sum)
    redis.call('PEXPIRE', limit.key, int(math.ceil((limit.window + 2 * limit.slot) / 1000)))
    limit.old, counts = {}, { { number = limit.current, count = sum } }
  end
  if sum >= limit.most then
    table.sort(counts, function(a, b) return a.number < b.number end)
    for _, slot in ipairs(counts) do
      sum = sum - slot.count
      if sum < limit.most then
        local left = (slot.number + 1) * limit.slot + limit.window - now
        if left > wait then wait, which = left, (i - 2) / 3 + 1 end
        break
      end
    end
  end
  limits[#limits + 1] = limit
end
if wait > 0 then return { wait, which } end
for _, limit in ipairs(limits) do
  if #limit.old > 0 then redis.call('HDEL', limit.key, unpack(limit.old)) end
  redis.call('HINCRBY', limit.key, int(limit.current), 1)
  redis.call('PEXPIRE', limit.key, int(math.ceil((limit.window + 2 * limit.slot) / 1000)))
end
return { 0, 0 }
