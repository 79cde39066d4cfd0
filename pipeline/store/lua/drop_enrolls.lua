-- Take roles back, all or none. ARGV: enroll ids. Returns 1, or 0 if there is no such enroll.
-- Tokens of a user who loses a role by it are worthless from then on: they say that the user has it.
for i = 2, #ARGV do
  if redis.call('EXISTS', K.enroll(ARGV[i])) == 0 then return 0 end
end
local touched = {}
for i = 2, #ARGV do
  local user, role = unpack(redis.call('HMGET', K.enroll(ARGV[i]), 'user', 'role'))
  if user then -- an id may be there twice
    redis.call('DEL', K.enroll(ARGV[i]))
    redis.call('SREM', K.user_enrolls(user), ARGV[i])
    redis.call('ZREM', K.role_enrolls(role), ARGV[i])
    touched[user] = true
  end
end
local now = int(now_us())
for user in pairs(touched) do
  if note_roles(user, now) then redis.call('HINCRBY', K.account(user), 'tokens', 1) end
end
return 1
