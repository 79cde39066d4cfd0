-- Remove a message from its thread, whoever wrote it. ARGV: user, id. Returns 1, or 0 if there is none.
local user, id = ARGV[2], ARGV[3]
local thread_id = redis.call('HGET', K.message(user .. '/' .. id), 'thread')
if not thread_id then return 0 end
redis.call('DEL', K.message(user .. '/' .. id))
redis.call('ZREM', K.thread_messages(user .. '/' .. thread_id), id)
forget_thread_if_empty(user, thread_id)
return 1
