-- Give roles to users, all or none. ARGV: most enrolls of a user, who gives them, then id, user, role, app, ...
-- Returns {}, or which of them cannot be kept and why: {number from 0, 'user' | 'id' | 'full'}: there is no such user, the id is
-- another enroll's, the user has as many as there can be.
local more = {}
for i = 4, #ARGV, 4 do
  local id, user, role, app = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  if redis.call('EXISTS', K.account(user)) == 0 then return { (i - 4) / 4, 'user' } end
  local kept = redis.call('HMGET', K.enroll(id), 'user', 'role', 'app')
  if kept[1] then
    if kept[1] ~= user or kept[2] ~= role or kept[3] ~= app then return { (i - 4) / 4, 'id' } end
  else
    more[user] = (more[user] or 0) + 1
    if redis.call('SCARD', K.user_enrolls(user)) + more[user] > tonumber(ARGV[2]) then return { (i - 4) / 4, 'full' } end
  end
end
local now = int(now_us())
for i = 4, #ARGV, 4 do
  local id, user, role, app = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  redis.call('HSET', K.enroll(id), 'user', user, 'role', role, 'app', app, 'updated', now)
  redis.call('HSETNX', K.enroll(id), 'created', now)
  redis.call('HSETNX', K.enroll(id), 'by', ARGV[3])
  redis.call('SADD', K.user_enrolls(user), id)
  redis.call('ZADD', K.role_enrolls(role), 0, id)
end
for user in pairs(more) do note_roles(user, now) end
return {}
