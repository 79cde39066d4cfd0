-- Add a message to a chat. ARGV: user, chat, message, role, parent ('' for none), most messages a chat may have, text, work
-- parameters (JSON); of the last two a prompter's has the first and an assistant's the second, the other one is ''.
-- Returns {'added', when (us)}, or why not: 'no chat', 'full', 'not empty', 'no parent', 'wrong parent', 'not complete',
-- 'disk full' for a prompter's while the disk is nearly full.
local user, chat_id, id, role, parent, most = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local text, parameters = ARGV[8], ARGV[9]
local chat = user .. '/' .. chat_id
if redis.call('HEXISTS', K.oa_chat(chat), 'created') == 0 then return { 'no chat' } end
-- A call whose reply was lost is sent again; ids are never used twice.
if redis.call('ZSCORE', K.oa_messages(chat), id) then
  return { 'added', redis.call('HGET', K.oa_message(user .. '/' .. id), 'created') }
end
-- An answer's prompt was accepted already: its message goes on.
if role == 'prompter' and redis.call('EXISTS', K.full()) == 1 then return { 'disk full' } end
local count = redis.call('ZCARD', K.oa_messages(chat))
if count >= most then return { 'full' } end
if parent == '' then
  if count > 0 then return { 'not empty' } end
else
  if not redis.call('ZSCORE', K.oa_messages(chat), parent) then return { 'no parent' } end
  -- Prompters and assistants take turns.
  if redis.call('HGET', K.oa_message(user .. '/' .. parent), 'role') == role then return { 'wrong parent' } end
  if role == 'prompter' and redis.call('HGET', K.prompt(user .. '/' .. parent), 'status') ~= 'completed' then
    return { 'not complete' }
  end
end
local now = int(now_us())
redis.call('HSET', K.oa_message(user .. '/' .. id), 'id', id, 'chat', chat_id, 'role', role, 'parent', parent, 'created', now)
if role == 'prompter' then
  redis.call('HSET', K.oa_message(user .. '/' .. id), 'text', text)
  if parent == '' then redis.call('HSETNX', K.oa_chat(chat), 'title', text) end
else
  redis.call('HSET', K.oa_message(user .. '/' .. id), 'parameters', parameters)
end
redis.call('ZADD', K.oa_messages(chat), redis.call('HINCRBY', K.oa_chat(chat), 'order', 1), id)
redis.call('HSET', K.oa_chat(chat), 'modified', now)
return { 'added', now }
