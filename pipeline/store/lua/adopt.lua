-- Index prompts of the first layout, whose indexes were scored by a counter and were fewer. ARGV: most prompts.
-- Returns how many there were; fewer than asked for: none is left.
local refs = redis.call('ZRANGEBYSCORE', K.all(), '-inf', 1000000000000, 'LIMIT', 0, ARGV[2])
for _, ref in ipairs(refs) do
  local p = load_prompt(ref)
  if p then
    local v = redis.call('HMGET', K.prompt(ref), 'updated', 'thread')
    for _, index in ipairs({ K.all(), K.by_status(p.status), K.by_user(p.user), K.by_user_status(p.status, p.user),
      K.by_thread_status(p.status, p.thread) }) do
      redis.call('ZADD', index, p.created, ref)
    end
    if has_ended(p) then redis.call('ZADD', K.ended(p.status), v[1], ref) end
    use_name(K.owner(), K.owners(p.id), p.id, p.user)
    use_name(K.thread_owner(), K.thread_owners(v[2]), v[2], p.user)
  else
    redis.call('ZREM', K.all(), ref)
  end
end
return #refs
