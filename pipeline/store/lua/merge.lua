-- The next entries of several indexes as one, all read at the same moment. ARGV: lowest and highest score, 'up' or 'down', most
-- entries, most of each index, indexes….
-- Returns {1 if nothing is behind them, ref, score, bytes of its texts, …}.
local lowest, highest, down, most, share = ARGV[2], ARGV[3], ARGV[4] == 'down', tonumber(ARGV[5]), tonumber(ARGV[6])
local rows, edge = {}, nil
for i = 7, #ARGV do
  local found
  if down then
    found = redis.call('ZREVRANGEBYSCORE', ARGV[i], highest, lowest, 'WITHSCORES', 'LIMIT', 0, share)
  else
    found = redis.call('ZRANGEBYSCORE', ARGV[i], lowest, highest, 'WITHSCORES', 'LIMIT', 0, share)
  end
  for j = 1, #found, 2 do rows[#rows + 1] = { found[j], tonumber(found[j + 1]) } end
  if #found == share * 2 then
    -- What this index holds behind its last entry here was not read.
    local last = tonumber(found[#found])
    if not edge then edge = last elseif down then edge = math.max(edge, last) else edge = math.min(edge, last) end
  end
end
table.sort(rows, function(a, b)
  if down then return a[2] > b[2] end
  return a[2] < b[2]
end)
local answer = { edge and 0 or 1 }
for _, row in ipairs(rows) do
  local is_behind = edge and (down and row[2] < edge or not down and row[2] > edge)
  if is_behind or #answer > most * 3 then
    answer[1] = 0
    break
  end
  answer[#answer + 1] = row[1]
  answer[#answer + 1] = int(row[2])
  answer[#answer + 1] = text_bytes(row[1])
end
return answer
