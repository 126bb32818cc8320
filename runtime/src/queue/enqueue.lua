-- Adds a job unless the queue already holds one with its id.
-- KEYS: pending payloads   ARGV: job id, job as JSON   Answer: 1 added, 0 was there
if redis.call('HSETNX', KEYS[2], ARGV[1], ARGV[2]) == 0 then
  return 0
end
redis.call('RPUSH', KEYS[1], ARGV[1])
return 1
