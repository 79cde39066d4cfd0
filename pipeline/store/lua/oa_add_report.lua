-- Keep a report about an assistant's message. ARGV: user, chat, message, the report (JSON in one line), most reports of a message.
-- Returns 'kept', 'missing', 'not an answer' or 'full'.
local user, chat, id = ARGV[2], ARGV[2] .. '/' .. ARGV[3], ARGV[4]
if redis.call('HEXISTS', K.oa_chat(chat), 'created') == 0 then return 'missing' end
if not redis.call('ZSCORE', K.oa_messages(chat), id) then return 'missing' end
local key = K.oa_message(user .. '/' .. id)
local role, reports, count = unpack(redis.call('HMGET', key, 'role', 'reports', 'report_count'))
if role ~= 'assistant' then return 'not an answer' end
if tonumber(count or '0') >= tonumber(ARGV[6]) then return 'full' end
redis.call('HSET', key, 'reports', (reports or '') .. ARGV[5] .. '\n')
redis.call('HINCRBY', key, 'report_count', 1)
return 'kept'
