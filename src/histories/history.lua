-- One conversation, as several gateways remember it.
--
-- KEYS[1]  the conversation, a hash: h the hash of its last prompt, n how often that came in a row, b everything else (JSON),
--          r the rules whose words it has, t when it was told, in milliseconds since 1970
-- ARGV     'get'
--          'put', hash, everything else, rules, milliseconds to remember it
--          'unsay', hash: the prompt that was told last got no answer
-- answers  to 'get' [h, n, b, r, milliseconds since it was told], or [] if there is none; otherwise 1

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local key = KEYS[1]

if ARGV[1] == 'get' then
  local all = redis.call('HMGET', key, 'h', 'n', 'b', 'r', 't')
  if not (all[1] and all[2] and all[3] and all[4] and all[5]) then return {} end
  return { all[1], tonumber(all[2]), all[3], all[4], math.max(0, now - tonumber(all[5])) }
end

local is_same = redis.call('HGET', key, 'h') == ARGV[2]
if ARGV[1] == 'unsay' then
  if is_same then redis.call('HINCRBY', key, 'n', -1) end
  return 1
end

-- Counted here, so that the same prompt to several gateways at once is counted each time.
if is_same then
  redis.call('HINCRBY', key, 'n', 1)
else
  redis.call('HSET', key, 'h', ARGV[2], 'n', 1)
end
redis.call('HSET', key, 'b', ARGV[3], 'r', ARGV[4], 't', string.format('%.0f', now))
redis.call('PEXPIRE', key, ARGV[5])
return 1
