-- Lease the next prompts of a model, as many as are asked for and as there are free permits.
-- ARGV: model, most, seconds a grant may stay unclaimed (µs). Returns a list of {ref, fence, 1 if it must run alone}.
local model, most, claim_us = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local free = tonumber(redis.call('HGET', K.stats(model), 'permits') or '0') - redis.call('ZCARD', K.leases(model))
local granted = {}
local now = now_us()
while #granted < most and #granted < free do
  local ref = dequeue_next(model)
  if not ref then break end
  local p = load_prompt(ref)
  forget_movable(p)
  set_status(p, 'running', now)
  -- Of the whole store, not of the prompt: a prompt that is erased and submitted again under its id must not meet an old
  -- attempt of its own number.
  local fence = redis.call('INCR', K.fence())
  redis.call('HSET', K.prompt(ref), 'fence', fence)
  redis.call('HINCRBY', K.prompt(ref), 'runs', 1)
  redis.call('HSET', K.prompt(ref), 'last_run', int(now), 'error', '')
  redis.call('ZADD', K.leases(model), int(now + claim_us), ref)
  granted[#granted + 1] = { ref, fence, p.crashes >= 2 and 1 or 0 }
end
return granted
