--- @include "includes/stored"
--- @include "includes/fmt"
-- The shard's totals as a plan: read once here, changed by other plans, written once by usage_apply.
local function usage_check(key, ...)
  local names = {'bytes', 'entries', ...}
  local plan = {key = key, count = {}}
  for i, value in ipairs(redis.call('HMGET', key, unpack(names))) do
    plan.count[names[i]] = stored('usage', value)
  end
  return plan
end

-- Add to a total; totals that usage_check did not read are read now.
local function usage_add(plan, name, by)
  local now = plan.count[name] or stored('usage', redis.call('HGET', plan.key, name))
  plan.count[name] = now + by
end

local function usage_apply(plan)
  local words, gone = {}, {}
  for name, value in pairs(plan.count) do
    words[#words + 1] = name
    words[#words + 1] = fmt(value)
    -- Types are the callers' words: those that nobody uses any more must not pile up.
    if value == 0 and string.sub(name, 1, 8) == 'entries:' then gone[#gone + 1] = name end
  end
  redis.call('HSET', plan.key, unpack(words))
  if #gone > 0 then redis.call('HDEL', plan.key, unpack(gone)) end
end
