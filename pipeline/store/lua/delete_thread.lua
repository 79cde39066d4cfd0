-- Remove messages of a thread that belong to no prompt, and the thread itself once nothing is left of it.
-- ARGV: user, thread, last place that goes, most messages to touch. Returns 1 if there may be more.
local user, id, place, most = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local thread = user .. '/' .. id
local messages = redis.call('ZRANGEBYSCORE', K.thread_messages(thread), '-inf', place * 2, 'LIMIT', 0, most)
for _, message in ipairs(messages) do
  redis.call('DEL', K.message(user .. '/' .. message))
  redis.call('ZREM', K.thread_messages(thread), message)
end
if #messages == most then return 1 end
-- What was submitted meanwhile stays, in a thread like any that a prompt makes.
redis.call('HDEL', K.thread(thread), 'conversation')
forget_thread_if_empty(user, id)
return 0
