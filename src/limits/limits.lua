-- Everything that gateways tell and ask the store about limits, in one step: all scopes of a request, or none.
--
-- KEYS     the scopes, all of one tenant; at last what tells this memory of the store from those it has lost
-- ARGV[1]  JSON: q the memory that the gateway has told everything, g gateway, e its epoch, x milliseconds after which
--          a silent gateway's holdings are taken back, o output tokens wanted, l the least of them, s for each scope:
--            k milliseconds to remember it; w whether what is outstanding is said in whole; f whether the gateway must
--            be known here
--            r [[rate, limit, back, owed], …]; n requests at a time that are outstanding more (or in all)
--            d, m the day and the month: [period, charged so far, outstanding more (or in all)]
--            v what the ledger has of each life of a gateway: [[gateway, day, tokens, month, money], …]
--            i what is asked: [[measure, limit, fixed, each, have, unit, extra], …]
-- answers  [1 given | 0 not enough | -1 say it all anew, milliseconds since 1970, output,
--          then for each item: given, left, milliseconds to wait, 1 if it lacks]
--
-- A scope is a hash: r0…r3 "level milliseconds" (rates, as leaky buckets), n requests at a time, d and m
-- "period used", g:GATEWAY "epoch seen n day charged outstanding month charged outstanding", reap the next time to look
-- for gateways that died. What was used of a budget is always the sum of what each gateway was charged and has
-- outstanding, also of those that ended. A gateway that only the ledger has told of has the epoch 0; one that was taken
-- for dead -1. The clock is this server's: those of the gateways do not matter.

local RATES = { [0] = 'r0', 'r1', 'r2', 'r3' }
local IN_FLIGHT, DAY, MONTH = 4, 5, 6

local ask = cjson.decode(ARGV[1])
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local keys = {}
for at = 1, #KEYS - 1 do keys[at] = KEYS[at] end
-- This store has forgotten what it was told, or is another one.
if redis.call('HGET', KEYS[#KEYS], 'id') ~= ask.q then return { -1, math.floor(now), 0 } end
local day = math.floor(clock[1] / 86400)

-- Months since January of the year 0, by Howard Hinnant's civil_from_days.
local function month_of(days)
  local shifted = days + 719468
  local era = math.floor(shifted / 146097)
  local of_era = shifted - era * 146097
  local leap = math.floor(of_era / 1460) - math.floor(of_era / 36524) + math.floor(of_era / 146096)
  local of_era_year = math.floor((of_era - leap) / 365)
  local of_year = of_era - (365 * of_era_year + math.floor(of_era_year / 4) - math.floor(of_era_year / 100))
  local from_march = math.floor((5 * of_year + 2) / 153)
  local month = from_march < 10 and from_march + 3 or from_march - 9
  local year = of_era_year + era * 400 + (month <= 2 and 1 or 0)
  return year * 12 + month - 1
end
local month = month_of(day)

local function numbers(text)
  local found = {}
  for word in string.gmatch(text or '', '%S+') do
    found[#found + 1] = tonumber(word)
  end
  return found
end

-- What a gateway holds; periods that are over hold nothing.
local function holding(text)
  local v = numbers(text)
  local held = { epoch = v[1], seen = v[2], n = v[3], { v[4], v[5], v[6] }, { v[7], v[8], v[9] } }
  if held[1][1] ~= day then held[1] = { day, 0, 0 } end
  if held[2][1] ~= month then held[2] = { month, 0, 0 } end
  return held
end

local function text_of(held)
  return string.format('%d %.0f %.0f %d %.0f %.0f %d %.0f %.0f', held.epoch, held.seen, held.n,
    held[1][1], held[1][2], held[1][3], held[2][1], held[2][2], held[2][3])
end

local function nothing_of(epoch)
  return { epoch = epoch, seen = 0, n = 0, { day, 0, 0 }, { month, 0, 0 } }
end

-- Takes back what gateways hold that have not been heard of.
local function reap(key, scope)
  local all = redis.call('HGETALL', key)
  for at = 1, #all, 2 do
    local name = all[at]
    if string.sub(name, 1, 2) == 'g:' and name ~= scope.me_field then
      local held = holding(all[at + 1])
      local is_silent = held.epoch > 0 and held.seen + ask.x < now
      local is_empty = held.n == 0 and held[1][3] == 0 and held[2][3] == 0
      -- What it was charged stands, so that it is not counted twice when it comes back.
      local is_charged = held[1][2] > 0 or held[2][2] > 0
      if (is_silent or held.epoch <= 0) and is_empty and not is_charged then
        redis.call('HDEL', key, name)
      elseif is_silent and not is_empty then
        scope.n = scope.n - held.n
        for b = 1, 2 do
          scope[b][2] = scope[b][2] - held[b][3]
          held[b][3] = 0
        end
        held.epoch, held.n = -1, 0
        redis.call('HSET', key, name, text_of(held))
      end
    end
  end
  redis.call('HSET', key, 'reap', string.format('%.0f', now + 1000))
end

local scopes = {}
for at, key in ipairs(keys) do
  local told = ask.s[at]
  local me = 'g:' .. ask.g
  local v = redis.call('HMGET', key, me, 'n', 'd', 'm', 'reap', 'r0', 'r1', 'r2', 'r3')
  local scope = { me_field = me, n = tonumber(v[2] or '0'), reap = tonumber(v[5] or '0') }
  for b, period in ipairs({ day, month }) do
    local found = numbers(v[2 + b] or '')
    scope[b] = found[1] == period and found or { period, 0 }
  end
  scope.rates = {}
  for rate = 0, 3 do
    local found = numbers(v[6 + rate] or '')
    scope.rates[rate] = { found[1] or 0, found[2] or now }
  end
  if v[1] then
    scope.me = holding(v[1])
    -- Sent before the gateway lost its connection, and read only now; or the gateway was taken for dead.
    if scope.me.epoch > ask.e or (scope.me.epoch < 0 and not told.w) then return { -1, math.floor(now), 0 } end
  elseif told.f then
    return { -1, math.floor(now), 0 }
  else
    scope.me = nothing_of(ask.e)
  end
  scopes[at] = scope
end

-- A rate's level now.
local function level(scope, rate, limit)
  local found = scope.rates[rate]
  return math.max(0, found[1] - math.max(0, now - found[2]) * limit / 60000)
end

-- Of two numbers for one life the larger counts: it only rises, whoever tells it and however late.
local function charge(scope, b, held, charged)
  if charged > held[b][2] then
    scope[b][2] = scope[b][2] + charged - held[b][2]
    held[b][2] = charged
  end
end

-- What the ledger has of a life; a period that is over, or that has not begun here, says nothing.
local function learn(key, scope, life)
  local field = 'g:' .. life[1]
  local held = scope.me
  if field ~= scope.me_field then
    local text = redis.call('HGET', key, field)
    held = text and holding(text) or nothing_of(0)
  end
  if life[2] == day then charge(scope, 1, held, life[3]) end
  if life[4] == month then charge(scope, 2, held, life[5]) end
  if held ~= scope.me and (held[1][2] > 0 or held[2][2] > 0) then redis.call('HSET', key, field, text_of(held)) end
end

for at, key in ipairs(keys) do
  local scope, told = scopes[at], ask.s[at]
  local me = scope.me
  if scope.reap < now then reap(key, scope) end
  for _, rate in ipairs(told.r) do
    local fresh = math.max(0, level(scope, rate[1], rate[2]) + rate[4] - rate[3])
    scope.rates[rate[1]] = { fresh, now, true }
  end
  local n = told.w and told.n or math.max(0, me.n + told.n)
  scope.n = math.max(0, scope.n + n - me.n)
  me.n = n
  for b, budget in ipairs({ told.d, told.m }) do
    if budget[1] == scope[b][1] then
      charge(scope, b, me, budget[2])
      local held = told.w and budget[3] or math.max(0, me[b][3] + budget[3])
      scope[b][2] = math.max(0, scope[b][2] + held - me[b][3])
      me[b][3] = held
    end
  end
  for _, life in ipairs(told.v) do learn(key, scope, life) end
  me.epoch, me.seen = ask.e, now
end

local function used(scope, measure, limit)
  if measure == IN_FLIGHT then return scope.n end
  if measure == DAY then return scope[1][2] end
  if measure == MONTH then return scope[2][2] end
  return level(scope, measure, limit)
end

local output = ask.o
for at in ipairs(keys) do
  for _, item in ipairs(ask.s[at].i) do
    local measure, limit, fixed, each, have, unit = unpack(item)
    if measure >= DAY and each > 0 then
      local room = math.max(0, limit - used(scopes[at], measure, limit)) * unit + have - fixed
      output = math.min(output, math.max(0, math.floor(room / each)))
    end
  end
end
output = math.max(output, ask.l)

local answer = { 1, math.floor(now), output }
local wanted = {}
for at in ipairs(keys) do
  for _, item in ipairs(ask.s[at].i) do
    local measure, limit, fixed, each, have, unit = unpack(item)
    local all = fixed + each * output
    if measure < IN_FLIGHT then all = math.min(all, limit) end
    local need = math.ceil(math.max(0, all - have) / unit)
    local left = limit - used(scopes[at], measure, limit)
    -- Levels have fractions; what they lack of a whole one is rounding.
    local lacks = need > left + 1e-6
    if lacks then answer[1] = 0 end
    local wait = 0
    if lacks and measure < IN_FLIGHT then wait = math.ceil((need - left) * 60000 / limit) end
    wanted[#wanted + 1] = { at = at, item = item, need = need, left = left, wait = wait, lacks = lacks }
  end
end

for _, want in ipairs(wanted) do
  local given, left = 0, want.left
  if answer[1] == 1 then
    local scope, measure, extra = scopes[want.at], want.item[1], want.item[7]
    given = want.need
    -- Less than a slice is left: it is for whoever needs it first.
    if given + extra <= left + 1e-6 then given = given + extra end
    left = left - given
    if measure == IN_FLIGHT then
      scope.n, scope.me.n = scope.n + given, scope.me.n + given
    elseif measure >= DAY then
      local b = measure - IN_FLIGHT
      scope[b][2], scope.me[b][3] = scope[b][2] + given, scope.me[b][3] + given
    else
      scope.rates[measure] = { level(scope, measure, want.item[2]) + given, now, true }
    end
  end
  answer[#answer + 1] = given
  answer[#answer + 1] = math.max(0, math.floor(left + 1e-6))
  answer[#answer + 1] = want.wait
  answer[#answer + 1] = want.lacks and 1 or 0
end

for at, key in ipairs(keys) do
  local scope, told = scopes[at], ask.s[at]
  local fields = { 'n', string.format('%.0f', scope.n),
    'd', string.format('%d %.0f', scope[1][1], scope[1][2]),
    'm', string.format('%d %.0f', scope[2][1], scope[2][2]) }
  for rate, found in pairs(scope.rates) do
    if found[3] then
      fields[#fields + 1] = RATES[rate]
      fields[#fields + 1] = string.format('%.17g %.3f', found[1], found[2])
    end
  end
  fields[#fields + 1] = scope.me_field
  fields[#fields + 1] = text_of(scope.me)
  redis.call('HSET', key, unpack(fields))
  if redis.call('PTTL', key) < told.k then redis.call('PEXPIRE', key, told.k) end
end
return answer
