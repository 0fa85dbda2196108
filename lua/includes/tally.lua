--- @include "includes/stored"
--- @include "includes/fmt"
-- What a group has done, counted in its hash: read once, written once.
local function tally_check(key, ...)
  local tally = {key = key, count = {}}
  local names = {...}
  for i, value in ipairs(redis.call('HMGET', key, unpack(names))) do tally.count[names[i]] = stored('group', value) end
  return tally
end

local function tally_add(tally, name, by)
  tally.count[name] = tally.count[name] + by
end

local function tally_apply(tally, ...)
  local words = {...}
  for name, value in pairs(tally.count) do
    words[#words + 1] = name
    words[#words + 1] = fmt(value)
  end
  redis.call('HSET', tally.key, unpack(words))
end
