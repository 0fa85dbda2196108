--- @include "includes/whole"
--- @include "includes/refuse"
-- The limits in force: the caller's settings, outranked by the tenant's flags (a shard's part of them).
--
-- ARGV   max_entries  int   contexts on this shard
--        max_bytes    int   stored bytes on this shard; 0 = no limit
--        max_type     int   contexts of this type on this shard; 0 = no limit
--        policy       word  reject, evict_oldest or evict_lru
--        rate         int   stored bytes a second; 0 = no limit
local function limits_of(tenant, max_entries, max_bytes, max_type, policy, rate)
  local function part(name, own, scale, least)
    if not tenant[name] then return own end
    local all = whole(name, tenant[name], 0, 1e15) * scale
    return math.max(math.floor(all / tenant.shards), math.min(all, least))
  end
  policy = tenant.policy or policy
  if policy ~= 'reject' and policy ~= 'evict_oldest' and policy ~= 'evict_lru' then refuse('ARGUMENT', 'name=policy') end
  return {
    max_entries = part('max_entries', whole('max_entries', max_entries, 0, 1e15), 1, 0),
    max_bytes = part('max_bytes', whole('max_bytes', max_bytes, 0, 1e15), 1, 1),
    max_type = whole('max_type', max_type, 0, 1e15),
    rate = part('max_mbps', whole('rate', rate, 0, 1e15), 125000, 1),
    policy = policy,
  }
end
