-- Reserve space for a file before its first byte is written. From here until it is kept, or its blob is removed, the file is
-- "unsettled": whoever sweeps finds it, whatever dies.
-- ARGV: file id, user, bytes wanted, bytes and files and uploads at a time that the user may have, µs until it counts as dead,
-- 'writing' for an upload, 'made' for what an attempt made, which its end keeps (finish.lua) and which is no upload of the user's.
-- Returns the bytes reserved (less than wanted where the user has less left), or 'bytes', 'files' or 'writing': what is used up;
-- 'full' for an upload while the disk is nearly full.
local id, user, wanted = ARGV[2], ARGV[3], tonumber(ARGV[4])
-- A call whose reply was lost is sent again; ids are never used twice.
local reserved_before = redis.call('HGET', K.file(id), 'size')
if reserved_before then return tonumber(reserved_before) end
local usage = redis.call('HMGET', K.file_usage(user), 'bytes', 'files', 'writing')
local left = tonumber(ARGV[5]) - tonumber(usage[1] or '0')
if tonumber(usage[2] or '0') >= tonumber(ARGV[6]) then return 'files' end
local state = ARGV[9]
if state == 'writing' and redis.call('EXISTS', K.full()) == 1 then return 'full' end
if state == 'writing' and tonumber(usage[3] or '0') >= tonumber(ARGV[7]) then return 'writing' end
if left <= 0 then return 'bytes' end
local reserved = math.min(wanted, left)
redis.call('HSET', K.file(id), 'state', state, 'user', user, 'size', int(reserved))
redis.call('HINCRBY', K.file_usage(user), 'bytes', int(reserved))
redis.call('HINCRBY', K.file_usage(user), 'files', 1)
if state == 'writing' then redis.call('HINCRBY', K.file_usage(user), 'writing', 1) end
redis.call('ZADD', K.unsettled_files(), int(now_us() + tonumber(ARGV[8])), id)
return reserved
