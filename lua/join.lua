#!lua
-- join: give the bus a consumer group, or a lost one back: it goes on where it was.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        wake       stream  lukhas:{t}:bus:wake
--        groups     hash    lukhas:{t}:bus:groups
--        group_key  hash    lukhas:{t}:group:<group>
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- ARGV   @tenant
--        group      name    the consumer group
--        waking     name    the group of workers that wait together
--        start      word    all = from the first event that is there; new = from now on
--        again      flag    1 = this worker had it before: a group without books was lost, and begins with the first event
-- OK     OK dry created healed
--- @include "includes/distinct"
--- @include "includes/matching"
--- @include "includes/now_ms"
--- @include "includes/stored"
--- @include "includes/tenant"
local critical, high, normal, low, wake, groups, group_key, flags, shard = unpack(KEYS)
local dry, mode, shards, marker, group, waking, start, again = unpack(ARGV)
local streams = {critical, high, normal, low}
distinct(KEYS)
matching('group', group, '^[%w_.-]+$')
matching('waking', waking, '^[%w_.@-]+$')
matching('start', start, '^[aln][lew][lw]$')
matching('again', again, '^[01]$')
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local now = now_ms()
local known = redis.call('HMGET', group_key, 'created_ms', 'last:1', 'last:2', 'last:3', 'last:4', 'healed')
local healed_before = stored('group', known[6])
local left = redis.call('HGET', groups, group)
redis.call('XLEN', wake)

-- Where each stream is read from: a group that was lost goes on after what it had, unless the stream is younger.
local function younger(stream, last)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if info.err then return true end
  local seen = ''
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then seen = info[i + 1] end
  end
  local ms, last_ms = tonumber(string.match(seen, '^(%d+)')), tonumber(string.match(last, '^(%d+)'))
  return ms < last_ms
end
local function is_missing(stream, name)
  local found = redis.pcall('XPENDING', stream, name)
  return found.err and string.match(found.err, '^NOGROUP') ~= nil
end
local from, missing = {}, {}
for rank, stream in ipairs(streams) do
  redis.call('XLEN', stream)
  missing[rank] = is_missing(stream, group)
  local last = known[rank + 1]
  if last and (not string.match(last, '^%d+%-%d+$') or redis.pcall('XRANGE', stream, last, last).err) then refuse('CORRUPT', 'key=group') end
  if known[1] then
    from[rank] = last and not younger(stream, last) and last or '0'
  else
    from[rank] = start == 'new' and again == '0' and '$' or '0'
  end
end
local waits = is_missing(wake, waking)
if tenant.dry then return {'OK', '1', '0', '0'} end

-- writes
local healed = 0
for rank, stream in ipairs(streams) do
  if missing[rank] then
    redis.call('XGROUP', 'CREATE', stream, group, from[rank], 'MKSTREAM')
    healed = healed + ((known[1] or again == '1') and 1 or 0)
  end
end
if waits then redis.call('XGROUP', 'CREATE', wake, waking, '$', 'MKSTREAM') end
if not left then redis.call('HSET', groups, group, fmt(now)) end
if not known[1] then redis.call('HSET', group_key, 'created_ms', fmt(now)) end
if healed > 0 then redis.call('HSET', group_key, 'healed', fmt(healed_before + healed)) end
return {'OK', '0', known[1] and '0' or '1', fmt(healed)}
