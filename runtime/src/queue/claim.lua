-- Returns expired claims to the queue (or to the dead letters), then claims up to ARGV[2] jobs.
-- KEYS: pending payloads claimed attempts dead
-- ARGV: visibility timeout (ms), jobs wanted, attempts allowed
-- Answer: { dead letters made now, id, payload, attempt, id, payload, attempt, ... }
-- The clock is Redis' own: workers on several machines need not agree on the time.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local wanted = tonumber(ARGV[2])
local allowed = tonumber(ARGV[3])
local buried = 0

local expired = redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', now, 'LIMIT', 0, 256)
for _, id in ipairs(expired) do
  redis.call('ZREM', KEYS[3], id)
  local attempts = tonumber(redis.call('HGET', KEYS[4], id) or '0')
  local payload = redis.call('HGET', KEYS[2], id)
  if payload and attempts >= allowed then
    redis.call('RPUSH', KEYS[5], payload)
    redis.call('HDEL', KEYS[2], id)
    redis.call('HDEL', KEYS[4], id)
    buried = buried + 1
  elseif payload then
    redis.call('LPUSH', KEYS[1], id)
  end
end

local answer = { buried }
local taken = 0
while taken < wanted do
  local id = redis.call('LPOP', KEYS[1])
  if not id then
    break
  end
  -- An id without a payload was acknowledged after its claim had expired.
  local payload = redis.call('HGET', KEYS[2], id)
  if payload then
    local attempt = redis.call('HINCRBY', KEYS[4], id, 1)
    redis.call('ZADD', KEYS[3], now + tonumber(ARGV[1]), id)
    answer[#answer + 1] = id
    answer[#answer + 1] = payload
    answer[#answer + 1] = attempt
    taken = taken + 1
  end
end
return answer
