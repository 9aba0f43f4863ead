-- One conversation, as several gateways remember it.
--
-- KEYS[1]  the conversation, a hash: h the hash of its last prompt, n how often that came in a row, b everything else (JSON),
--          r the rules whose words it has, t when it was told, in milliseconds since 1970
-- ARGV     'get'
--          'put', hash, everything else or '' where only the prompt is to be counted, rules, milliseconds to remember it, how often
--          in a row the gateway has seen the prompt
--          'unsay', hash: that prompt got no answer
-- answers  to 'get' [h, n, b, r, milliseconds since it was told], or [] if there is none; otherwise 1

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local key = KEYS[1]

if ARGV[1] == 'get' then
  local all = redis.call('HMGET', key, 'h', 'n', 'b', 'r', 't')
  if not (all[1] and all[2]) then return {} end
  return { all[1], tonumber(all[2]), all[3] or '', all[4] or '0', math.max(0, now - tonumber(all[5] or now)) }
end

local is_same = redis.call('HGET', key, 'h') == ARGV[2]
if ARGV[1] == 'unsay' then
  local times = tonumber(redis.call('HGET', key, 'n') or 0)
  if is_same and times > 0 then redis.call('HSET', key, 'n', times - 1) end
  return 1
end

-- Counted here, so that the same prompt to several gateways at once is counted each time; a gateway may know of more, which
-- a store that was away does not.
local times = tonumber(ARGV[6])
if is_same then times = math.max(times, tonumber(redis.call('HGET', key, 'n') or 0) + 1) end
redis.call('HSET', key, 'h', ARGV[2], 'n', string.format('%.0f', times))
if ARGV[3] ~= '' then
  redis.call('HSET', key, 'b', ARGV[3], 'r', ARGV[4], 't', string.format('%.0f', now))
end
redis.call('PEXPIRE', key, ARGV[5])
return 1
