-- Why contexts are gone: a reason is kept, bounded by age and by number, a few taken away at a time.
local function bury_check(tombs, now, grace_ms, max_tombs)
  local plan = {tombs = tombs, grace_ms = grace_ms, max_tombs = max_tombs, words = {}, count = redis.call('ZCARD', tombs)}
  if plan.count > 0 then plan.old = redis.call('ZRANGEBYSCORE', tombs, '-inf', now - grace_ms, 'LIMIT', 0, 100) end
  return plan
end

local function bury(plan, reason, id, at)
  plan.words[#plan.words + 1] = at
  plan.words[#plan.words + 1] = reason .. ':' .. id
end

-- A new context under the id ends the memory of the one before.
local function bury_lift(plan, id)
  if plan.count > 0 or #plan.words > 0 then
    redis.call('ZREM', plan.tombs, 'dropped:' .. id, 'expired:' .. id, 'evicted:' .. id, 'lost:' .. id)
  end
end

local function bury_apply(plan)
  if plan.old and #plan.old > 0 then redis.call('ZREM', plan.tombs, unpack(plan.old)) end
  if #plan.words > 0 then
    redis.call('ZADD', plan.tombs, unpack(plan.words))
    redis.call('PEXPIRE', plan.tombs, plan.grace_ms)
  end
  if plan.count + #plan.words / 2 > plan.max_tombs then
    local excess = redis.call('ZCARD', plan.tombs) - plan.max_tombs
    if excess > 0 then redis.call('ZPOPMIN', plan.tombs, math.min(excess, 400)) end
  end
end
