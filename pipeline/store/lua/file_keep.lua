-- The blob of a file is published: record it, and charge what it really takes.
-- ARGV: file id, 'uploads' or 'downloads', digest of the URL or '', size, then the record as field, value, …
-- Returns 0 if the upload counted as dead already, else {time of creation, id of the download this one replaces or ''}.
local id, kind, digest, size = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local before = redis.call('HMGET', K.file(id), 'state', 'user', 'size')
if before[1] ~= 'writing' then return 0 end
local user = before[2]
local list = K.user_files(kind, user)
-- Later than the one before, also within a microsecond or after the clock was set back: pages go by it.
local latest = redis.call('ZREVRANGE', list, 0, 0, 'WITHSCORES')
local created = int(math.max(now_us(), tonumber(latest[2] or '0') + 1))
redis.call('HSET', K.file(id), 'state', 'kept', 'kind', kind, 'digest', digest, 'size', int(size), 'created', created,
  unpack(ARGV, 6))
redis.call('HINCRBY', K.file_usage(user), 'bytes', int(size - tonumber(before[3])))
redis.call('HINCRBY', K.file_usage(user), 'writing', -1)
redis.call('ZADD', list, created, id)
redis.call('ZREM', K.unsettled_files(), id)
local replaced = ''
if digest ~= '' then
  replaced = redis.call('HGET', K.user_urls(user), digest) or ''
  redis.call('HSET', K.user_urls(user), digest, id)
end
return { created, replaced }
