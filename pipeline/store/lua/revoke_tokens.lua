-- Make the tokens of a user worthless that were issued so far. ARGV: user. Returns 1, or 0 if there is no such user.
if redis.call('EXISTS', K.account(ARGV[2])) == 0 then return 0 end
redis.call('HINCRBY', K.account(ARGV[2]), 'tokens', 1)
return 1
