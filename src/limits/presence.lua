-- Says that a gateway is there, and tells how many are, and whether the store still has what it was told.
--
-- KEYS     the set of gateways; what tells this memory of the store from those it has lost
-- ARGV     gateway, milliseconds after which a silent one does not count, 1 if this one leaves, a new name for the
--          memory if it has none, the memory that this gateway has told everything it knows ('' for none),
--          milliseconds to remember the memory
-- answers  [how many, milliseconds since 1970, the memory, how many milliseconds old it is, 1 if some gateway has told
--          it everything]

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2]))
if ARGV[3] == '1' then
  redis.call('ZREM', KEYS[1], ARGV[1])
else
  redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
  redis.call('PEXPIRE', KEYS[1], 10 * ARGV[2])
end
local memory = redis.call('HMGET', KEYS[2], 'id', 'born', 'told')
if not memory[1] then
  memory = { ARGV[4], string.format('%.0f', now), false }
  redis.call('HSET', KEYS[2], 'id', memory[1], 'born', memory[2])
end
if ARGV[5] == memory[1] and not memory[3] then
  memory[3] = '1'
  redis.call('HSET', KEYS[2], 'told', '1')
end
redis.call('PEXPIRE', KEYS[2], ARGV[6])
return { redis.call('ZCARD', KEYS[1]), now, memory[1], now - tonumber(memory[2]), memory[3] and 1 or 0 }
