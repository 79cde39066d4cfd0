-- Prompts that have ended, written straight to where the product's scripts would leave them (benchmarks/history.py compares).
-- ARGV: namespace, number of the first, how many, users, threads of each, model, text of prompts, text of answers, meta of
-- answers, creation of number 0 (µs), µs between two, then the fields of the end entry of a completed prompt.
local first, count, users, threads = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local model, text, answer, meta = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local begin, step = tonumber(ARGV[10]), tonumber(ARGV[11])
local function int(n) return string.format('%.0f', n) end

for n = first, first + count - 1 do
  local user = 'usr-' .. (n % users)
  local thread_id = user .. '-thread-' .. (math.floor(n / users) % threads)
  local id, message, thread = 'prom-' .. n, 'msg-' .. n, user .. '/' .. thread_id
  local ref, now = user .. '/' .. id, int(begin + n * step)
  local is_canceled = (n + math.floor(n / users)) % 20 == 0
  local status = is_canceled and 'canceled' or 'completed'
  local place = redis.call('HINCRBY', K.thread(thread), 'place', 1)
  redis.call('HSETNX', K.thread(thread), 'title', text)
  redis.call('HSETNX', K.thread(thread), 'created', now)
  redis.call('HSET', K.thread(thread), 'updated', now)
  redis.call('HSET', K.prompt(ref), 'id', id, 'user', user, 'thread', thread_id, 'model', model, 'prompt', text,
    'max_retries', 4, 'priority', 0, 'sync', 0, 'status', status, 'place', place, 'created', now, 'updated', now,
    'last_run', is_canceled and 0 or now, 'runs', is_canceled and 0 or 1, 'failures', 0, 'crashes', 0, 'fence', 0, 'entries', 1)
  redis.call('HSETNX', K.owner(), id, user)
  redis.call('HSETNX', K.thread_owner(), thread_id, user)
  redis.call('ZADD', K.all(), now, ref)
  redis.call('ZADD', K.by_status(status), now, ref)
  redis.call('ZADD', K.by_user(user), now, ref)
  redis.call('ZADD', K.by_user_status(status, user), now, ref)
  redis.call('ZADD', K.by_thread_status(status, thread), now, ref)
  redis.call('ZADD', K.ended(status), now, ref)
  redis.call('ZADD', K.thread_prompts(thread), place, ref)
  redis.call('HSET', K.message(user .. '/' .. id), 'id', id, 'thread', thread_id, 'text', text, 'user', user,
    'created', now, 'prompt', ref)
  redis.call('ZADD', K.thread_messages(thread), place * 2 - 1, id)
  if is_canceled then
    redis.call('XADD', K.log(ref), '1-0', 'k', 'end', 'r', 'canceled')
  else
    local fence = redis.call('INCR', K.fence())
    redis.call('HSET', K.prompt(ref), 'fence', fence, 'error', '', 'fingerprint', 'f', 'message', message)
    redis.call('HSET', K.message(user .. '/' .. message), 'id', message, 'thread', thread_id, 'text', answer, 'created', now,
      'meta', meta, 'prompt', ref)
    redis.call('ZADD', K.thread_messages(thread), place * 2, message)
    redis.call('XADD', K.log(ref), '1-0', 'm', message, unpack(ARGV, 12))
  end
  redis.call('SET', K.seq(), now)
end
return count
