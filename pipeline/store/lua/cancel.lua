-- Cancel a prompt that has not ended. ARGV: ref. Returns 'missing', the terminal status it already had, or 'canceled'
-- followed by 1 if this call did it. The end entry and the doorbell of the replica that runs it are part of it.
local p = load_prompt(ARGV[2])
if not p then return { 'missing', 0 } end
if has_ended(p) then return { p.status, 0 } end
if p.holder ~= '' then redis.call('PUBLISH', K.doorbell(p.holder), p.ref) end
close(p, 'canceled', now_us(), { 'k', 'end', 'r', 'canceled' })
tell_finished(p, 'canceled')
tell(p.user, 'promptRemoved', 'promptId', p.id)
wake(p.model)
return { 'canceled', 1 }
