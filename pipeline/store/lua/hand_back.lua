-- A leased prompt goes back to its queue uncharged: the replica was full, is stopping, or was never reached.
-- ARGV: ref, fence. Returns 1, or 0 if the attempt no longer owns the prompt.
local p = owned(ARGV[2], ARGV[3])
if not p then return 0 end
redis.call('HINCRBY', K.prompt(p.ref), 'runs', -1)
requeue(p, now_us())
tell_finished(p, 'handed back; the prompt waits for another replica')
wake(p.model)
return 1
