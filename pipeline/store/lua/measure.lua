-- When prompts were created and how long their texts are. ARGV: refs…. Returns {created or false, bytes of its texts, …}.
local answer = {}
for i = 2, #ARGV do
  answer[#answer + 1] = redis.call('HGET', K.prompt(ARGV[i]), 'created')
  answer[#answer + 1] = text_bytes(ARGV[i])
end
return answer
