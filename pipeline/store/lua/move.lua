-- Move prompts that wait to their fallback models, the newest first: they would wait longest. ARGV: model, how many may go on
-- waiting for it, most to move, why (kept with the prompt). What they were given of the model is for the fallback from now on.
-- Returns how many were moved.
local model, stay, most, why = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local over = math.min(most, tonumber(redis.call('HGET', K.stats(model), 'waiting') or '0') - stay)
if over <= 0 then return 0 end
local woken = {}
local refs = redis.call('ZREVRANGE', K.movable(model), 0, over - 1)
for _, ref in ipairs(refs) do
  local p = load_prompt(ref)
  dequeue(p)
  local tokens, history = unpack(redis.call('HMGET', K.prompt(ref), 'fallback_tokens', 'history'))
  redis.call('HSET', K.prompt(ref), 'model', p.fallback, 'tokens', tokens, 'routed', why)
  -- The model had rendered it with its history; these are the bare prompt.
  if history == '2' then redis.call('HSET', K.prompt(ref), 'history', '1') end
  redis.call('HDEL', K.prompt(ref), 'fallback', 'fallback_tokens')
  woken[p.fallback] = true
  p.model, p.fallback = p.fallback, nil
  enqueue(p)
  -- Whoever follows the prompt may wait for another model now.
  redis.call('PUBLISH', K.bell(p.thread), p.place)
end
for other, _ in pairs(woken) do wake(other) end
return #refs
