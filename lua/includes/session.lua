--- @include "includes/fmt"
-- The session's list of contexts: a hint with its own deadline, the last one of its contexts plus grace.
local function session_check(key, now)
  return redis.call('ZRANGEBYSCORE', key, '-inf', '(' .. now, 'LIMIT', 0, 4)
end

local function session_apply(key, gone, id, deadline, grace_ms)
  if #gone > 0 then redis.call('ZREM', key, unpack(gone)) end
  redis.call('ZADD', key, deadline, id)
  local ends = deadline + grace_ms
  if redis.call('PEXPIRETIME', key) < ends then redis.call('PEXPIREAT', key, fmt(ends)) end
end
