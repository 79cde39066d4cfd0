-- Complete a prompt: answer message, its files, end of the log, status, all at once.
-- ARGV: ref, fence, how many entries the log has, message id, answer text, message meta (JSON), how many files the attempt made,
-- for each of them id, size, name and type, then the fields of the end entry.
-- Returns 1, 0 if the attempt no longer owns the prompt, -1 if a file counted as dead already, or -2 if the store has forgotten
-- entries of the log; then nothing is changed.
local ref, fence, entries, message, text, meta = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
local behind_files = 9 + 4 * tonumber(ARGV[8])
local p = owned(ref, fence)
if not p then return 0 end
if tonumber(redis.call('HGET', K.prompt(ref), 'entries')) < entries then return -2 end
local files = {}
for i = 9, behind_files - 1, 4 do
  if redis.call('HGET', K.file(ARGV[i]), 'state') ~= 'made' then return -1 end
  files[#files + 1] = ARGV[i]
end
local now = now_us()
local thread_id = redis.call('HGET', K.prompt(ref), 'thread')
redis.call('HSET', K.message(p.user .. '/' .. message), 'id', message, 'thread', thread_id, 'text', text,
  'created', int(now), 'meta', meta, 'prompt', ref)
redis.call('ZADD', K.thread_messages(p.thread), p.place * 2, message)
redis.call('HSET', K.prompt(ref), 'message', message, 'error', '')
local fields = { 'm', message }
if #files > 0 then
  for i = 9, behind_files - 1, 4 do
    keep_file(ARGV[i], p.user, 'made', 'uploads', '', tonumber(ARGV[i + 1]), { 'name', ARGV[i + 2], 'type', ARGV[i + 3], 'url', '' })
  end
  local ids = cjson.encode(files)
  redis.call('HSET', K.message(p.user .. '/' .. message), 'files', ids)
  fields[3], fields[4] = 'f', ids
end
for i = behind_files, #ARGV do fields[#fields + 1] = ARGV[i] end
tell(p.user, 'chatMessageAdded', 'threadId', thread_id)
close(p, 'completed', now, fields)
tell_finished(p)
wake(p.model)
return 1
