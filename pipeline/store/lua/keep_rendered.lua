-- The prompt as it is with its history, before anything is generated from it: whoever resumes it takes the same ids.
-- A `history` of 1 (it is still to get it) becomes 2 (the ids have it): another model must render it anew (move.lua).
-- ARGV: ref, fence, token ids. Returns 1, or 0 if the attempt no longer owns the prompt.
local p = owned(ARGV[2], ARGV[3])
if not p then return 0 end
local key = K.prompt(p.ref)
redis.call('HSET', key, 'tokens', ARGV[4])
if redis.call('HGET', key, 'history') == '1' then redis.call('HSET', key, 'history', '2') end
return 1
