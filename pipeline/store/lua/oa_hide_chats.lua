-- Hide chats of a user that are not hidden. ARGV: user, most. Returns how many it were.
local user, most = ARGV[2], tonumber(ARGV[3])
local ids = redis.call('ZRANGE', K.oa_visible(user), 0, most - 1)
for _, id in ipairs(ids) do
  redis.call('HSET', K.oa_chat(user .. '/' .. id), 'hidden', 1)
  redis.call('ZREM', K.oa_visible(user), id)
end
return #ids
