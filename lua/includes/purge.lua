--- @include "includes/account"
--- @include "includes/bury"
--- @include "includes/emit"
-- Contexts that are gone, or are to go: `add` collects them, `apply` takes them out of the accounts.
local function purge_plan(usage, graves)
  return {usage = usage, graves = graves, ids = {}, events = {}, is = {}}
end

-- reason: expired, evicted, lost or dropped; at: since when (ms).
local function purge_add(plan, id, size, reason, at)
  if plan.is[id] then return end
  local events = {expired = 'context.expire', evicted = 'context.evict', lost = 'context.lose', dropped = 'context.drop'}
  plan.is[id] = true
  plan.ids[#plan.ids + 1] = id
  plan.events[#plan.events + 1] = events[reason]
  if size then account_remove(plan.usage, size) end
  usage_add(plan.usage, reason, 1)
  bury(plan.graves, reason, id, fmt(at))
end

-- The first `most` contexts past their deadline.
local function purge_expired(plan, keys, now, most)
  local due = redis.call('ZRANGEBYSCORE', keys.index, '-inf', '(' .. now, 'WITHSCORES', 'LIMIT', 0, most)
  local ids = {}
  for i = 1, #due, 2 do ids[#ids + 1] = due[i] end
  local sizes = #ids > 0 and redis.call('HMGET', keys.sizes, unpack(ids)) or {}
  for i, id in ipairs(ids) do purge_add(plan, id, sizes[i], 'expired', due[2 * i]) end
  return #ids
end

-- The first of all writes, see emit; before the event of a context that takes the place of a gone one.
local function purge_emit(plan, keys, window)
  for i, id in ipairs(plan.ids) do emit(keys.events, window, plan.events[i], id, '0') end
end

local function purge_apply(plan, keys)
  if #plan.ids == 0 then return end
  redis.call('ZREM', keys.index, unpack(plan.ids))
  redis.call('ZREM', keys.order, unpack(plan.ids))
  redis.call('HDEL', keys.sizes, unpack(plan.ids))
end
