#!lua flags=allow-oom
-- trim: forget events that every group has finished and that are older than the history kept.
-- Takes idle workers off the books. Without any group a stream is history alone; where a known group was lost it is
-- left as it is.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        wake       stream  lukhas:{t}:bus:wake
--        groups     hash    lukhas:{t}:bus:groups
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- ARGV   @tenant
--        history_ms=3600000 int how long finished events stay readable
--        max_entries=100000 int events a stream may hold
--        pressure=0 flag    1 = a stream is full: history makes room
--        idle_ms=3600000 int workers not heard of for so long are taken off the books
-- OK     OK dry trimmed reaped
-- FCALL  wake
--- @include "includes/distinct"
--- @include "includes/whole"
--- @include "includes/now_ms"
--- @include "includes/tenant"
--- @include "includes/backlog"
--- @include "includes/consumers"
local critical, high, normal, low, wake, groups, flags, shard = unpack(KEYS)
local dry, mode, shards, marker, history_ms, max_entries, pressure, idle_ms = unpack(ARGV)
distinct(KEYS)
history_ms, max_entries = whole('history_ms', history_ms, 0, 1e13), whole('max_entries', max_entries, 1, 1e9)
idle_ms = whole('idle_ms', idle_ms, 1000, 1e13)
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local now, plans, known = now_ms(), {}, redis.call('HKEYS', groups)
redis.call('XLEN', wake)
for rank, stream in ipairs({critical, high, normal, low}) do
  local length, floor, ms = redis.call('XLEN', stream), backlog_floor(stream)
  local full = pressure == '1' and length >= max_entries
  if not floor then floor, ms = fmt(now + 1) .. '-0', now + 1 end
  if not full and ms > now - history_ms then floor = fmt(math.max(0, now - history_ms)) .. '-0' end
  if backlog_lacks(stream, known) then floor = '0-0' end
  plans[rank] = {stream = stream, length = length, below = floor, full = full, room = math.max(1, math.floor(max_entries / 10))}
end
if tenant.dry then
  local would = 0
  for _, plan in ipairs(plans) do
    -- Nothing is below the first id there can be.
    if plan.below ~= '0-0' then would = would + #redis.call('XRANGE', plan.stream, '-', '(' .. plan.below, 'COUNT', 1000) end
  end
  return {'OK', '1', fmt(would), '0'}
end

-- writes
local trimmed, reaped = 0, 0
for _, plan in ipairs(plans) do
  -- Short streams exactly; long ones by whole nodes, and a bounded number, so that no call takes long. A full one gives
  -- up no more of its history than the room it needs.
  if plan.length <= 1000 then
    trimmed = trimmed + redis.call('XTRIM', plan.stream, 'MINID', plan.below)
  else
    trimmed = trimmed + redis.call('XTRIM', plan.stream, 'MINID', '~', plan.below, 'LIMIT', plan.full and plan.room or 10000)
  end
  for _, group in ipairs(backlog_groups(plan.stream)) do reaped = reaped + consumers_reap(plan.stream, group.name, idle_ms) end
end
for _, group in ipairs(backlog_groups(wake)) do consumers_reap(wake, group.name, idle_ms) end
return {'OK', '0', fmt(trimmed), fmt(reaped)}
