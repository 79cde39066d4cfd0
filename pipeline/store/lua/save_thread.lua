-- Make a thread, which is a conversation then, or change one's title and topics.
-- ARGV: user, thread, title of a new thread, then what is given of it as field, value, …. Returns the thread as HGETALL gives it.
local user, id, title = ARGV[2], ARGV[3], ARGV[4]
local key, now = K.thread(user .. '/' .. id), int(now_us())
local is_new = redis.call('HSETNX', key, 'created', now) == 1
if is_new then
  redis.call('PERSIST', key)
  redis.call('HSET', key, 'title', title, 'conversation', '1')
  redis.call('ZADD', K.threads(user), now, id)
end
redis.call('HSET', key, 'updated', now, unpack(ARGV, 5))
tell(user, is_new and 'chatThreadAdded' or 'chatThreadUpdate', 'threadId', id)
return redis.call('HGETALL', key)
