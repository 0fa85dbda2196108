#!lua
-- redrive: give dead letters back to the groups they died in, with their deliveries counted anew.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        dead       stream  lukhas:{t}:bus:dead
--        wake       stream  lukhas:{t}:bus:wake
--        groups     hash    lukhas:{t}:bus:groups
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- ARGV   @tenant
--        letter...  text    ids of dead letters, at most 100
-- OK     OK dry (stream id, or empty where there is no such letter or group)...
-- FCALL  dead
--- @include "includes/distinct"
--- @include "includes/matching"
--- @include "includes/tenant"
--- @include "includes/copy"
--- @include "includes/taken"
--- @include "includes/wake"
local critical, high, normal, low, dead, wake, groups, flags, shard = unpack(KEYS)
local dry, mode, shards, marker = unpack(ARGV)
local streams = {critical = critical, high = high, normal = normal, low = low}
distinct(KEYS)
if #ARGV > 104 then refuse('ARGUMENT', 'name=letter') end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, false)
for _, stream in ipairs({critical, high, normal, low, wake}) do redis.call('XLEN', stream) end
local answer, found, seen, taken = {'OK', tenant.dry and '1' or '0'}, {}, {}, taken_check(shard)
for _, letter in ipairs({unpack(ARGV, 5)}) do
  matching('letter', letter, '^%d+%-%d+$')
  local entry = not seen[letter] and redis.call('XRANGE', dead, letter, letter)[1]
  local map = entry and copy_map(entry[2])
  local can = map and map.payload and streams[map.priority] and redis.call('HEXISTS', groups, map.group or '') == 1
  if can then found[#found + 1] = {letter = letter, fields = entry[2], map = map, place = #answer + 1} end
  seen[letter] = true
  answer[#answer + 1] = can and tenant.dry and letter or ''
end
if tenant.dry or #found == 0 then return answer end

-- writes
local moved = 0
for _, one in ipairs(found) do
  local copy = copy_apply(streams[one.map.priority], one.fields, one.map.group)
  if copy then
    answer[one.place] = copy
    moved = moved + redis.call('XDEL', dead, one.letter)
  end
end
taken_apply(shard, taken, moved)
wake_one(wake)
return answer
