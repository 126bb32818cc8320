-- Lets held claims expire after a delay instead of the visibility timeout. A claim that is no longer held stays as it is.
-- KEYS: claimed   ARGV: delay (ms), job ids...   Answer: how many claims were held
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[1])
local held = 0
for i = 2, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    redis.call('ZADD', KEYS[1], 'XX', due, ARGV[i])
    held = held + 1
  end
end
return held
