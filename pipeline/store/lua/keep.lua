-- Keep a grant that its replica cannot begin yet. ARGV: ref, fence, lease (µs).
-- Returns 1, or 0 if the attempt no longer owns the prompt, or has begun elsewhere: the holder's heartbeats keep it then.
local p = owned(ARGV[2], ARGV[3])
if not p or p.holder ~= '' then return 0 end
redis.call('ZADD', K.leases(p.model), int(now_us() + tonumber(ARGV[4])), p.ref)
return 1
