-- Where a prompt stands in its queue. ARGV: ref. Returns its position from 1, 0 if it does not wait or is missing.
local p = load_prompt(ARGV[2])
return p and queue_position(p) or 0
