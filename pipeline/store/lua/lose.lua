-- The replica (or its engine) died under this attempt. ARGV: ref, fence, then the ids of the nodes that are alive: a death that
-- came with its node's does not count against the prompt. What the replica had offered is taken back at once.
-- Returns 1, or 0 if the attempt no longer owns the prompt.
local p = owned(ARGV[2], ARGV[3])
if not p then return 0 end
if p.holder == '' then
  -- It never reached the replica, so it cannot have killed it.
  redis.call('HINCRBY', K.prompt(p.ref), 'runs', -1)
  requeue(p, now_us())
else
  crashed(p, now_us(), contains(ARGV, 4, p.node))
  forget_replica(p.model, p.holder)
  count_permits(p.model)
end
wake(p.model)
return 1
