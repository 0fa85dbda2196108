-- Why contexts are gone: a reason is kept, bounded by age and by number, a few taken away at a time.
local function bury_check(tombs, now, grace_ms, max_tombs, more)
  local plan = {tombs = tombs, grace_ms = grace_ms, words = {}, count = redis.call('ZCARD', tombs), excess = 0}
  if plan.count > 0 then
    plan.old = redis.call('ZRANGEBYSCORE', tombs, '-inf', now - grace_ms, 'LIMIT', 0, 100)
    plan.excess = math.min(plan.count - #plan.old + more - max_tombs, 200)
  end
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
  if plan.excess > 0 then redis.call('ZPOPMIN', plan.tombs, plan.excess) end
end
