-- Gives each key a value unless it has one.
-- KEYS: any   ARGV: value, its time to live in ms   Answer: the value of each key now
local values = redis.call('MGET', unpack(KEYS))
for i, key in ipairs(KEYS) do
  if not values[i] then
    redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
    values[i] = ARGV[1]
  end
end
return values
