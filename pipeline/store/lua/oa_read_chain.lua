-- A message of a chat and those it follows, the newest first. ARGV: user, chat, message, most messages, most bytes of text, beyond
-- which the walk ends. Returns {role, text} of each; the text of an answer that is gone is ''.
local user, chat, id, most, most_bytes = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local chain, bytes = {}, 0
while id ~= '' and #chain < most and bytes <= most_bytes do
  local in_chat, role, parent, text =
    unpack(redis.call('HMGET', K.oa_message(user .. '/' .. id), 'chat', 'role', 'parent', 'text'))
  if in_chat ~= chat then break end
  if role == 'assistant' then
    local answer = redis.call('HGET', K.prompt(user .. '/' .. id), 'message')
    text = answer and redis.call('HGET', K.message(user .. '/' .. answer), 'text')
  end
  chain[#chain + 1] = { role, text or '' }
  bytes = bytes + #(text or '')
  id = parent
end
return chain
