-- From now on a chat does not exist for anybody but who goes on deleting it. ARGV: user, chat.
-- Returns 0 if there is none, and nothing is left of one.
local user, id = ARGV[2], ARGV[3]
local key = K.oa_chat(user .. '/' .. id)
if redis.call('HEXISTS', key, 'created') == 0 then return redis.call('HEXISTS', key, 'deleting') end
redis.call('HDEL', key, 'created')
redis.call('HSET', key, 'deleting', 1)
redis.call('ZREM', K.oa_visible(user), id)
return 1
