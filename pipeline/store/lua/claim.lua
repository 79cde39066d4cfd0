-- A replica takes a granted attempt. ARGV: ref, fence, replica, lease (µs), fingerprint of its model.
-- Returns {} if the grant is not (or no longer) its own, else {fields of the record, log so far, and, if the prompt is still to
-- get its history: place, prompt}.
local ref, fence, replica, lease_us, fingerprint = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6]
local p = owned(ref, fence)
if not p or (p.holder ~= '' and p.holder ~= replica) then return {} end
if p.holder == '' then tell(p.user, 'promptProcessingStarted', 'promptId', p.id) end
local key = K.prompt(ref)
local logged_under = redis.call('HGET', key, 'fingerprint') or fingerprint
if logged_under ~= fingerprint and redis.call('EXISTS', K.log(ref)) == 1 then
  -- Another model wrote what is there; its ids mean nothing to this one.
  log_append(p, { 'k', 'restart' })
end
-- The node is kept here, not looked up when it is needed: a dead replica is forgotten with the first prompt it is missed from,
-- and the others must be charged too.
redis.call('HSET', key, 'holder', replica, 'node', redis.call('HGET', K.nodes(p.model), replica) or '',
  'fingerprint', fingerprint)
redis.call('ZADD', K.leases(p.model), int(now_us() + lease_us), ref)
local history = {}
if redis.call('HGET', key, 'history') == '1' then history = redis.call('HMGET', key, 'place', 'prompt') end
return { redis.call('HMGET', key, 'tokens', 'sampling', 'failures', 'max_retries', 'thread', 'user', 'id', 'entries', 'image',
    'file_ids'),
  redis.call('XRANGE', K.log(ref), '-', '+'), history }
