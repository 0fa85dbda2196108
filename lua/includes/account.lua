--- @include "includes/usage"
--- @include "includes/account_split"
-- A context's share of the totals.
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
