-- Says that a gateway is there, and tells how many are.
--
-- KEYS[1]  the set of gateways
-- ARGV     gateway, milliseconds after which a silent one does not count, 1 if this one leaves
-- answers  [how many, milliseconds since 1970]

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
if ARGV[3] == '1' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], 10 * ARGV[2])
end
return { redis.call('ZCARD', KEYS[1]), now }
