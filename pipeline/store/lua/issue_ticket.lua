-- Keep a stream ticket that is not used yet. ARGV: digest, user, holder, life in ms, most per user and life.
-- Returns 0, or ms until the user may have another one.
local count = redis.call('INCR', K.ticket_count(ARGV[3]))
if count == 1 then redis.call('PEXPIRE', K.ticket_count(ARGV[3]), ARGV[5]) end
if count > tonumber(ARGV[6]) then return math.max(redis.call('PTTL', K.ticket_count(ARGV[3])), 1) end
redis.call('HSET', K.ticket(ARGV[2]), 'holder', ARGV[4])
redis.call('PEXPIRE', K.ticket(ARGV[2]), ARGV[5])
return 0
