-- Forget a file; its blob is the caller's to remove, and the sweeper's if the caller dies. Called again for the same file it
-- only puts the sweeper off.
-- ARGV: file id, its owner or '' for whoever it is, 'kept' or 'dead' (in any other state), µs until the sweeper looks.
-- Returns 'dropped', 'gone' if there is no such file (any more), 'stays' if it is another user's or in another state.
local id, owner, state = ARGV[2], ARGV[3], ARGV[4]
local due = int(now_us() + tonumber(ARGV[5]))
local f = redis.call('HMGET', K.file(id), 'state', 'user', 'size', 'kind', 'digest')
local user = f[2]
if not f[1] then
  redis.call('ZADD', K.unsettled_files(), 'XX', due, id)
  return 'gone'
end
if (f[1] == 'kept') ~= (state == 'kept') or (owner ~= '' and owner ~= user) then return 'stays' end
redis.call('ZADD', K.unsettled_files(), due, id)
redis.call('DEL', K.file(id))
redis.call('HINCRBY', K.file_usage(user), 'bytes', int(0 - tonumber(f[3])))
if redis.call('HINCRBY', K.file_usage(user), 'files', -1) == 0 then redis.call('DEL', K.file_usage(user)) end
if f[1] == 'writing' then
  -- With the last file the whole count is gone.
  if redis.call('EXISTS', K.file_usage(user)) == 1 then redis.call('HINCRBY', K.file_usage(user), 'writing', -1) end
elseif f[1] == 'kept' then
  redis.call('ZREM', K.user_files(f[4], user), id)
  if f[5] ~= '' and redis.call('HGET', K.user_urls(user), f[5]) == id then redis.call('HDEL', K.user_urls(user), f[5]) end
end
return 'dropped'
