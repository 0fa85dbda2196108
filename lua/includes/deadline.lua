--- @include "includes/fmt"
--- @include "includes/session"
-- Move the deadline of every key of a context at once. The session's list moves with it, so its key must be
-- declared: the caller names the session it believes in and is told the right one when it is wrong.
local function deadline_check(keys, now)
  redis.call('STRLEN', keys.body)
  return {left = redis.call('LLEN', keys.segs) + redis.call('LLEN', keys.hops) + redis.call('LLEN', keys.log), gone = session_check(keys.session, now)}
end

local function deadline_apply(keys, plan, id, deadline, ttl_ms, grace_ms)
  redis.call('HSET', keys.ctx, 'expires_ms', fmt(deadline), 'ttl_ms', fmt(ttl_ms))
  for _, key in ipairs({keys.ctx, keys.body, keys.segs, keys.hops, keys.log}) do redis.call('PEXPIREAT', key, fmt(deadline)) end
  redis.call('ZADD', keys.index, fmt(deadline), id)
  session_apply(keys.session, plan.gone, id, deadline, grace_ms)
end
