-- Forgets finished jobs, whether their claims are still held or have expired meanwhile.
-- KEYS: payloads claimed attempts   ARGV: job ids   Answer: how many the queue still knew
local known = 0
for _, id in ipairs(ARGV) do
  redis.call('ZREM', KEYS[2], id)
  redis.call('HDEL', KEYS[3], id)
  known = known + redis.call('HDEL', KEYS[1], id)
end
return known
