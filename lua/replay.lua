#!lua
-- replay: give events of the history to one group once more.
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
--        group      name    the consumer group
--        max_entries int    events a stream may hold
--        event...   text    rank and stream id of each, at most 100
-- OK     OK dry (stream id, or empty where there is no such event)...
-- ERR    LKGROUP            there is no such group
--        LKBACKLOG          a stream of the bus is full of unhandled events: priority, limit
--- @include "includes/distinct"
--- @include "includes/matching"
--- @include "includes/whole"
--- @include "includes/tenant"
--- @include "includes/ranks"
--- @include "includes/copy"
--- @include "includes/wake"
local critical, high, normal, low, wake, groups, flags, shard = unpack(KEYS)
local dry, mode, shards, marker, group, max_entries = unpack(ARGV)
local streams = {critical, high, normal, low}
distinct(KEYS)
max_entries = whole('max_entries', max_entries, 1, 1e9)
if #ARGV % 2 == 1 or #ARGV > 206 then refuse('ARGUMENT', 'name=event') end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, false)
if redis.call('HEXISTS', groups, group) == 0 then refuse('GROUP') end
redis.call('XLEN', wake)
local lengths = {}
for rank, stream in ipairs(streams) do lengths[rank] = redis.call('XLEN', stream) end
local answer, found = {'OK', tenant.dry and '1' or '0'}, {}
for i = 7, #ARGV, 2 do
  local rank, sid = whole('rank', ARGV[i], 1, 4), matching('stream_id', ARGV[i + 1], '^%d+%-%d+$')
  local entry = redis.call('XRANGE', streams[rank], sid, sid)[1]
  answer[#answer + 1] = entry and sid or ''
  if entry then
    found[#found + 1] = {stream = streams[rank], fields = entry[2], place = #answer}
    lengths[rank] = lengths[rank] + 1
    if lengths[rank] > max_entries then refuse('BACKLOG', 'priority=' .. rank_name(rank) .. ' limit=' .. fmt(max_entries)) end
  end
end
if tenant.dry or #found == 0 then return answer end

-- writes
for _, one in ipairs(found) do answer[one.place] = copy_apply(one.stream, one.fields, group) or '' end
wake_one(wake)
return answer
