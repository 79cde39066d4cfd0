-- The blob of an upload is published: record it, and charge what it really takes.
-- ARGV: file id, 'uploads' or 'downloads', digest of the URL or '', size, then the record as field, value, …
-- Returns 0 if the upload counted as dead already, else {time of creation, id of the download this one replaces or ''}.
local id, kind, digest, size = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local before = redis.call('HMGET', K.file(id), 'state', 'user', 'size', 'created', 'replaced')
-- A call whose reply was lost is sent again.
if before[1] == 'kept' and before[3] == ARGV[5] then return { before[4], before[5] or '' } end
if before[1] ~= 'writing' then return 0 end
local user = before[2]
local created = keep_file(id, user, before[1], kind, digest, size, { unpack(ARGV, 6) })
local replaced = ''
if digest ~= '' then
  replaced = redis.call('HGET', K.user_urls(user), digest) or ''
  redis.call('HSET', K.user_urls(user), digest, id)
  if replaced ~= '' then redis.call('HSET', K.file(id), 'replaced', replaced) end
end
return { created, replaced }
