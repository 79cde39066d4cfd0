-- Add entries to the logs of several running attempts. ARGV: for each entry ref, fence, the number it gets in its log,
-- count of fields, fields…. Returns, in the same order, 1 for a written entry, 0 for one whose attempt no longer owns its prompt,
-- and -1 for one that would leave a gap: the store has forgotten entries before it. The number makes it safe to send a call again
-- whose reply was lost.
local i, written = 2, {}
while i <= #ARGV do
  local ref, fence, number, count = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local fields = {}
  for j = i + 4, i + 3 + count do fields[#fields + 1] = ARGV[j] end
  i = i + 4 + count
  local p, outcome = owned(ref, fence), 0
  if p then
    local entries = tonumber(redis.call('HGET', K.prompt(ref), 'entries'))
    if entries == number - 1 then log_append(p, fields) end
    outcome = entries < number - 1 and -1 or 1
  end
  written[#written + 1] = outcome
end
return written
