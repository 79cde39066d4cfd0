-- A new chat of the Open-Assistant door. ARGV: user, chat. Returns when it was made (us).
local user, id = ARGV[2], ARGV[3]
local now = int(now_us())
redis.call('HSET', K.oa_chat(user .. '/' .. id), 'created', now, 'modified', now)
redis.call('ZADD', K.oa_chats(user), 0, id)
redis.call('ZADD', K.oa_visible(user), 0, id)
return now
