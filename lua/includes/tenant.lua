--- @include "includes/refuse"
--- @include "includes/stored"
--- @include "includes/fmt"
-- The tenant's settings at this moment, and whether this run must change nothing.
--
-- ARGV   dry=0        flag  1 = change nothing, answer as if
--        mode=live    word  the tenant's mode until it has one
--        shards=      int   how many shards the caller believes in; empty = not known
--        marker=      text  which incarnation of the server's data the caller knows; empty = not known
-- ERR    LKRESET            the server lost its data since the caller last looked
--        LKCLOSED           the tenant has no record yet: open it
--        LKSHARDS           the tenant has another number of shards
--        LKPAUSED           the tenant is paused
local function tenant_check(flags, shard, dry, mode, shards, marker, when_paused)
  local set = redis.call('HMGET', flags, 'mode', 'max_entries', 'max_bytes', 'policy', 'max_mbps')
  local known = redis.call('HMGET', shard, 'shards', 'marker')
  mode = set[1] or mode
  if mode ~= 'live' and mode ~= 'dry_run' and mode ~= 'paused' then refuse('CORRUPT', 'key=flags') end
  dry = dry == '1' or mode == 'dry_run'
  if marker ~= '' and known[2] ~= marker then refuse('RESET') end
  if not known[1] and not dry then refuse('CLOSED') end
  if known[1] and shards ~= '' and known[1] ~= shards then refuse('SHARDS', 'shards=' .. fmt(stored('shard', known[1]))) end
  if mode == 'paused' and not when_paused then refuse('PAUSED') end
  return {dry = dry, mode = mode, shards = tonumber(known[1]) or 1, max_entries = set[2], max_bytes = set[3], policy = set[4], max_mbps = set[5]}
end
