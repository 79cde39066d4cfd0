-- Cancel answers of a chat that wait and of which nothing is written yet, but for those to one message: drafts side by side.
-- ARGV: user, chat, the message whose answers are spared, place behind which to look, most prompts to look at.
-- Returns the last place looked at, '' if there are no more.
local user, chat, spared, most = ARGV[2], ARGV[2] .. '/' .. ARGV[3], ARGV[4], tonumber(ARGV[6])
local rows = redis.call('ZRANGEBYSCORE', K.thread_open(chat), '(' .. ARGV[5], '+inf', 'WITHSCORES', 'LIMIT', 0, most)
for i = 1, #rows, 2 do
  local ref = rows[i]
  -- Prompts that came to the thread through another door are not messages of the chat.
  local parent = redis.call('HGET', K.oa_message(ref), 'parent')
  local p = load_prompt(ref)
  if parent and parent ~= spared and p and p.status == 'scheduled' and redis.call('HGET', K.prompt(ref), 'entries') == '0' then
    close(p, 'canceled', now_us(), { 'k', 'end', 'r', 'canceled' })
    tell(p.user, 'promptRemoved', 'promptId', p.id)
    wake(p.model)
  end
end
return #rows == 2 * most and rows[#rows] or ''
