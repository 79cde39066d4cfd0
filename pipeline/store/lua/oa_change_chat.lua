-- Change what is given of a chat: title, hidden (0 or 1), data_use (0 or 1), tail (one of its messages).
-- ARGV: user, chat, then field, value, …. Returns 'changed', 'no chat' or 'no message'.
local user, id = ARGV[2], ARGV[3]
local chat = user .. '/' .. id
if redis.call('HEXISTS', K.oa_chat(chat), 'created') == 0 then return 'no chat' end
for i = 4, #ARGV, 2 do
  if ARGV[i] == 'tail' and not redis.call('ZSCORE', K.oa_messages(chat), ARGV[i + 1]) then return 'no message' end
end
for i = 4, #ARGV, 2 do
  redis.call('HSET', K.oa_chat(chat), ARGV[i], ARGV[i + 1])
  if ARGV[i] == 'hidden' then
    if ARGV[i + 1] == '1' then
      redis.call('ZREM', K.oa_visible(user), id)
    else
      redis.call('ZADD', K.oa_visible(user), 0, id)
    end
  end
end
return 'changed'
