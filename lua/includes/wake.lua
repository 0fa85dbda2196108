-- Wake one idle worker of every application. The tokens are hints: a worker that misses one looks by itself soon.
local function wake_one(wake)
  redis.call('XADD', wake, 'MAXLEN', 16, '*', 'look', '1')
end
