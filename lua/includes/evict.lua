--- @include "includes/account_split"
-- Which contexts to evict so that `entries` and `bytes` fit; pinned ones are not in the order and never chosen.
-- Answers the victims in order, their sizes, whether they suffice, and whether there are more; at most 100 a call.
local function evict_check(keys, skip, entries, bytes)
  local victims, enough = {ids = {}, sizes = {}}, false
  local oldest = redis.call('ZRANGE', keys.order, 0, 99)
  local sizes = #oldest > 0 and redis.call('HMGET', keys.sizes, unpack(oldest)) or {}
  for i, id in ipairs(oldest) do
    if not enough and not skip[id] then
      victims.ids[#victims.ids + 1], victims.sizes[#victims.ids + 1] = id, sizes[i]
      entries, bytes = entries - 1, bytes - account_split(sizes[i])
      enough = entries <= 0 and bytes <= 0
    end
  end
  return victims, enough, #oldest == 100
end

-- Whether the caller declared the keys of every victim.
local function evict_declared(victims, declared)
  local is = {}
  for _, id in ipairs(declared) do is[id] = true end
  for _, id in ipairs(victims.ids) do
    if not is[id] then return false end
  end
  return true
end

-- groups: ctx, body, segs, hops and log of each declared id, in the order of `declared`.
local function evict_apply(victims, declared, groups)
  local is = {}
  for _, id in ipairs(victims.ids) do is[id] = true end
  for i, id in ipairs(declared) do
    if is[id] then redis.call('UNLINK', unpack(groups, 5 * i - 4, 5 * i)) end
  end
end
