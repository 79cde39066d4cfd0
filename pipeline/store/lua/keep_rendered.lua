-- The prompt as it is with its history, before anything is generated from it: whoever resumes it takes the same ids.
-- ARGV: ref, fence, token ids. Returns 1, or 0 if the attempt no longer owns the prompt.
local p = owned(ARGV[2], ARGV[3])
if not p then return 0 end
redis.call('HSET', K.prompt(p.ref), 'tokens', ARGV[4], 'history', '0')
return 1
