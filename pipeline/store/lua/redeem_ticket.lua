-- Open a stream with a ticket, or open that same stream again. ARGV: digest, stream, 1 if the client resumes,
-- life in ms once it is open, most openings, name of this opening.
-- Returns the holder, nothing if the ticket is not good (any more) for this.
local key = K.ticket(ARGV[2])
local ticket = redis.call('HMGET', key, 'holder', 'stream', 'opening')
if not ticket[1] then return false end
-- A call whose reply was lost is sent again.
if ticket[3] == ARGV[7] then return ticket[1] end
if not ticket[2] then
  redis.call('HSET', key, 'stream', ARGV[3], 'openings', 1, 'opening', ARGV[7])
  redis.call('PEXPIRE', key, ARGV[5])
  return ticket[1]
end
if ticket[2] ~= ARGV[3] or ARGV[4] ~= '1' then return false end
if redis.call('HINCRBY', key, 'openings', 1) > tonumber(ARGV[6]) then return false end
redis.call('HSET', key, 'opening', ARGV[7])
return ticket[1]
