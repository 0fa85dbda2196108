--- @include "includes/usage"
-- The accounts of one context, kept as "<bytes> <type>" in `sizes`, and their share of the totals.
local function account_split(size)
  local bytes, type = string.match(size or '', '^(%d+) (.+)$')
  return tonumber(bytes or 0), type
end

local function account_remove(usage, size)
  local bytes, type = account_split(size)
  usage_add(usage, 'bytes', -bytes)
  usage_add(usage, 'entries', -1)
  if type then usage_add(usage, 'entries:' .. type, -1) end
end

local function account_add(usage, bytes, type)
  usage_add(usage, 'bytes', bytes)
  usage_add(usage, 'entries', 1)
  usage_add(usage, 'entries:' .. type, 1)
end
