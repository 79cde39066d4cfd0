-- Keep something about an assistant's message. ARGV: user, chat, message, field, value, then messages that must be in the chat, too.
-- Returns 'kept', 'missing' or 'not an answer'.
local user, chat, id = ARGV[2], ARGV[2] .. '/' .. ARGV[3], ARGV[4]
if redis.call('HEXISTS', K.oa_chat(chat), 'created') == 0 then return 'missing' end
if not redis.call('ZSCORE', K.oa_messages(chat), id) then return 'missing' end
if redis.call('HGET', K.oa_message(user .. '/' .. id), 'role') ~= 'assistant' then return 'not an answer' end
for i = 7, #ARGV do
  if not redis.call('ZSCORE', K.oa_messages(chat), ARGV[i]) then return 'missing' end
end
redis.call('HSET', K.oa_message(user .. '/' .. id), ARGV[5], ARGV[6])
return 'kept'
