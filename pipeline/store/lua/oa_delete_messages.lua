-- Remove messages of a chat that is being deleted, then what is left of the chat. ARGV: user, chat, most messages.
-- Returns 1 if there may be more.
local user, chat, most = ARGV[2], ARGV[2] .. '/' .. ARGV[3], tonumber(ARGV[4])
local ids = redis.call('ZRANGE', K.oa_messages(chat), 0, most - 1)
for _, id in ipairs(ids) do
  redis.call('DEL', K.oa_message(user .. '/' .. id))
  redis.call('ZREM', K.oa_messages(chat), id)
end
if #ids == most then return 1 end
redis.call('DEL', K.oa_chat(chat))
redis.call('ZREM', K.oa_chats(user), ARGV[3])
return 0
