-- Remove a finished prompt with its text. ARGV: ref.
-- Returns 'missing', 'erased', or the status of a prompt that has not ended.
local p = load_prompt(ARGV[2])
if not p then return 'missing' end
if not has_ended(p) then return p.status end
erase(p)
return 'erased'
