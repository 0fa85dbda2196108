-- Wake one idle worker of every application. The tokens are hints: a worker that misses one looks by itself soon, so
-- one that cannot be written (a stream whose last id is the largest possible) is let go.
local function wake_one(wake)
  redis.pcall('XADD', wake, 'MAXLEN', 16, '*', 'look', '1')
end
