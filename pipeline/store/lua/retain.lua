-- Erase what ended longer ago than it is kept. ARGV: most prompts to erase, then a status and how long its prompts are kept (µs), …
-- Returns how many were erased; as many as asked for: there may be more. The queue that a prompt belonged to does not matter, so
-- those of models that have left the catalogue go too.
local left, now, erased = tonumber(ARGV[2]), now_us(), 0
for i = 3, #ARGV, 2 do
  local status, before = ARGV[i], int(now - tonumber(ARGV[i + 1]))
  for _, ref in ipairs(redis.call('ZRANGEBYSCORE', K.ended(status), '-inf', before, 'LIMIT', 0, left)) do
    local p = load_prompt(ref)
    if p and p.status == status then
      erase(p)
    else
      redis.call('ZREM', K.ended(status), ref)
    end
    left, erased = left - 1, erased + 1
  end
end
return erased
