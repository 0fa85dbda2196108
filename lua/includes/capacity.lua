--- @include "includes/refuse"
--- @include "includes/fmt"
--- @include "includes/evict"
-- Whether the planned totals fit. Answers nil when they do; otherwise what must happen first.
-- A limit lowered below today's use refuses growth, never a replacement that does not grow.
--
-- ERR    LKFULL             no room, and nothing may be evicted: scope, limit
local function capacity_over(usage, limits, new, type)
  if limits.max_bytes > 0 and new.bytes > limits.max_bytes then refuse('FULL', 'scope=bytes limit=' .. fmt(limits.max_bytes)) end
  local over = {entries = 0, bytes = 0}
  if new.is_entry then over.entries = math.max(0, usage.count.entries - limits.max_entries) end
  if limits.max_bytes > 0 and new.grows then over.bytes = math.max(0, usage.count.bytes - limits.max_bytes) end
  over.share = limits.max_type > 0 and new.is_type and usage.count['entries:' .. type] > limits.max_type
  return (over.entries > 0 or over.bytes > 0 or over.share) and over or nil
end

local function capacity_victims(keys, limits, over, skip)
  if over.share then refuse('FULL', 'scope=type limit=' .. fmt(limits.max_type)) end
  local scope = over.entries > 0 and 'entries' or 'bytes'
  local full = 'scope=' .. scope .. ' limit=' .. fmt(limits['max_' .. scope])
  if limits.policy == 'reject' then refuse('FULL', full) end
  local victims, enough, more = evict_check(keys, skip, over.entries, over.bytes)
  if not enough and not more then refuse('FULL', full) end
  return victims, enough
end
