-- Post a message by hand, or put another in the place of one. ARGV: user, thread, id, author ('' for an answer), then the rest as
-- field, value, …. Returns 'saved'; 'missing' if there is no such thread; 'taken' if the id is a message of another
-- one; 'full' if the disk is nearly full.
local user, thread_id, id, author = ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local thread, key = user .. '/' .. thread_id, K.message(user .. '/' .. id)
if redis.call('HEXISTS', K.thread(thread), 'created') == 0 then return 'missing' end
if redis.call('EXISTS', K.full()) == 1 then return 'full' end
local now = int(now_us())
local where, prompt = unpack(redis.call('HMGET', key, 'thread', 'prompt'))
if where then
  if where ~= thread_id then return 'taken' end
  redis.call('HDEL', key, 'text', 'files', 'meta')
else
  -- In the order of the thread it stands behind the prompts submitted so far, their answers included.
  local place = redis.call('HINCRBY', K.thread(thread), 'place', 1)
  redis.call('HSET', key, 'id', id, 'thread', thread_id, 'created', now)
  redis.call('ZADD', K.thread_messages(thread), place * 2 - 1, id)
end
if not prompt then
  -- Who wrote a prompt and its answer is known.
  redis.call('HDEL', key, 'user')
  if author ~= '' then redis.call('HSET', key, 'user', author) end
end
redis.call('HSET', key, 'updated', now, unpack(ARGV, 6))
redis.call('HSET', K.thread(thread), 'updated', now)
tell(user, 'chatMessageAdded', 'threadId', thread_id)
return 'saved'
