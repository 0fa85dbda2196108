--- @include "includes/whole"
--- @include "includes/matching"
-- The limits in force: the caller's settings, outranked by the tenant's flags (a shard's part of them).
--
-- ARGV   max_entries  int   contexts on this shard
--        max_bytes    int   stored bytes on this shard; 0 = no limit
--        max_type     int   contexts of this type on this shard; 0 = no limit
--        policy       word  reject, evict_oldest or evict_lru
--        rate         int   stored bytes a second; 0 = no limit
local function limits_of(tenant, max_entries, max_bytes, max_type, policy, rate)
  local function part(name, own, scale)
    if not tenant[name] then return own end
    return math.floor(whole(name, tenant[name], 0, 1e15) * scale / tenant.shards)
  end
  return {
    max_entries = part('max_entries', whole('max_entries', max_entries, 0, 1e15), 1),
    max_bytes = part('max_bytes', whole('max_bytes', max_bytes, 0, 1e15), 1),
    max_type = whole('max_type', max_type, 0, 1e15),
    rate = part('max_mbps', whole('rate', rate, 0, 1e15), 125000),
    policy = matching('policy', tenant.policy or policy, '^[a-z_]+$'),
  }
end
