-- Take what a pixel job's log has behind what was delivered on a channel, for one poll. ARGV: job, session, channel, name of the
-- poll, how long its reply may take (µs), most entries.
-- Returns nothing if the session has no such job or its prompt is erased; {1} while the reply of another poll is under way;
-- {0, ref, status, entries of the log, delivered, page}. The page counts as delivered when confirm_poll.lua says so: if whoever
-- asked dies first, the next poll gets it again.
local key, channel = K.pixel_job(ARGV[2]), ARGV[4]
local v = redis.call('HMGET', key, 'session', 'ref', 'fetched', 'streams', 'entries', channel .. '.at', channel .. '.until')
if v[1] ~= ARGV[3] or v[3] then return false end
local now = now_us()
if tonumber(v[7] or '0') > now then return { 1 } end
local ref, at = v[2], tonumber(v[6] or '0')
local status, entries, page = 'completed', tonumber(v[5] or '0'), {}
if ref ~= '' then
  local p = redis.call('HMGET', K.prompt(ref), 'status', 'entries')
  if not p[1] then return false end
  -- Of an answer that is not streamed there is nothing to deliver but the end.
  status, entries = p[1], v[4] == '1' and tonumber(p[2]) or at
  if at < entries then page = redis.call('XRANGE', K.log(ref), '(' .. at .. '-0', '+', 'COUNT', ARGV[7]) end
end
if #page > 0 or (ref == '' and at < entries) then
  redis.call('HSET', key, channel .. '.poll', ARGV[5], channel .. '.until', int(now + tonumber(ARGV[6])))
end
return { 0, ref, status, entries, at, page }
