-- A leased prompt goes back to its queue uncharged: the replica was full, is stopping, or was never reached.
-- ARGV: ref, fence, and, if a replica asks, its name: it may have been sent what another one runs already.
-- Returns 1, or 0 if the attempt no longer owns the prompt, or is not the replica's.
local p = owned(ARGV[2], ARGV[3])
if not p or (ARGV[4] and p.holder ~= '' and p.holder ~= ARGV[4]) then return 0 end
redis.call('HINCRBY', K.prompt(p.ref), 'runs', -1)
requeue(p, now_us())
tell_finished(p, 'handed back; the prompt waits for another replica')
wake(p.model)
return 1
