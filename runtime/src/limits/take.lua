-- Takes tokens of all rules, or of none.
-- KEYS: the rules of one client   ARGV, 4 per rule: 'w'indow or 'b'ucket, limit, microseconds of a slot or of a token, tokens
-- Answer: 1 or 0, which rule decided (from 0), what it has left, microseconds until it has all, until a retry (-1: never)
-- A window is a hash of slots with their counts, as in window.rs; a bucket is the time at which it is full, as in bucket.rs.
local COUNTERS = 11
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local function number(value) return string.format('%.0f', value) end

-- Microseconds until the oldest slots that hold `needed` have left the window.
local function free_in(slots, needed, unit)
  table.sort(slots, function(one, other) return one[1] < other[1] end)
  local free = 0
  for _, slot in ipairs(slots) do
    free = free + slot[2]
    if free >= needed then return math.max((slot[1] + COUNTERS) * unit - now, 0) end
  end
  return 0
end

local takes, tightest, most = {}, nil, -1
for i, key in ipairs(KEYS) do
  local kind, limit, unit, tokens =
    ARGV[i * 4 - 3], tonumber(ARGV[i * 4 - 2]), tonumber(ARGV[i * 4 - 1]), tonumber(ARGV[i * 4])
  local used, reset, retry
  if kind == 'w' then
    local newest, raw, slots, stale = math.floor(now / unit), redis.call('HGETALL', key), {}, {}
    used = 0
    for field = 1, #raw, 2 do
      local at, count = tonumber(raw[field]), tonumber(raw[field + 1])
      if at <= newest - COUNTERS then
        stale[#stale + 1] = raw[field]
      else
        slots[#slots + 1] = { at, count }
        used = used + count
      end
    end
    if used + tokens > limit then
      retry = tokens > limit and -1 or free_in(slots, used + tokens - limit, unit)
      reset = free_in(slots, used, unit)
    else
      used = used + tokens
      reset = COUNTERS * unit
      takes[i] = function()
        if #stale > 0 then redis.call('HDEL', key, unpack(stale)) end
        redis.call('HINCRBY', key, number(newest), tokens)
        redis.call('PEXPIRE', key, number(math.ceil(COUNTERS * unit / 1000) + 1))
      end
    end
  else
    local full = math.max(tonumber(redis.call('GET', key) or 0), now)
    local after = full + tokens * unit
    local wait = after - now - limit * unit
    if tokens > limit or wait > 0 then
      retry = tokens > limit and -1 or wait
    else
      full = after
      takes[i] = function()
        redis.call('SET', key, number(full), 'PX', number(math.ceil((full - now) / 1000) + 1))
      end
    end
    used = math.ceil((full - now) / unit)
    reset = full - now
  end
  if retry then return { 0, i - 1, math.max(limit - used, 0), number(reset), number(retry) } end
  local share = used / limit
  if share > most then tightest, most = { 1, i - 1, math.max(limit - used, 0), number(reset), 0 }, share end
end
for _, take in ipairs(takes) do take() end
return tightest
