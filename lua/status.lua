#!lua flags=no-writes
-- status: what the bus of a shard holds and how far its groups are.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        later      stream  lukhas:{t}:bus:later
--        dead       stream  lukhas:{t}:bus:dead
--        groups     hash    lukhas:{t}:bus:groups
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- OK     now_ms marker streams later dead groups dead_taken
-- FCALL  groups
--- @include "includes/now_ms"
--- @include "includes/stored"
--- @include "includes/fmt"
local critical, high, normal, low, later, dead, groups, flags, shard = unpack(KEYS)
local function described(stream)
  local info = redis.pcall('XINFO', 'STREAM', stream)
  if info.err then return {'0', '0', ''} end
  local map = {}
  for i = 1, #info, 2 do map[info[i]] = info[i + 1] end
  return {tostring(map.length), tostring(map['entries-added'] or 0), map['first-entry'] and map['first-entry'][1] or ''}
end

-- Name, pending, lag (empty = the server does not know), last id, oldest pending id, its workers with what they have, and
-- the id of the first event it was not given yet.
local function reading(stream)
  local found, all = redis.pcall('XINFO', 'GROUPS', stream), {}
  for i = 1, found.err and 0 or #found do
    local one = {}
    for j = 1, #found[i], 2 do one[found[i][j]] = found[i][j + 1] end
    local oldest = redis.call('XPENDING', stream, one.name)
    local workers = {}
    for _, row in ipairs(oldest[4] or {}) do
      workers[#workers + 1] = row[1]
      workers[#workers + 1] = row[2]
    end
    local last = one['last-delivered-id']
    local first = redis.pcall('XRANGE', stream, '(' .. last, '+', 'COUNT', 1)[1]
    all[i] = {one.name, tostring(one.pending), one.lag and tostring(one.lag) or '', last, oldest[2] or '', workers, first and first[1] or ''}
  end
  return all
end
local streams = {}
for rank, stream in ipairs({critical, high, normal, low}) do
  redis.call('XLEN', stream)
  streams[rank] = {described(stream), reading(stream)}
end
redis.call('HLEN', flags)
local taken = fmt(stored('shard', redis.call('HGET', shard, 'dead_taken')))
return {fmt(now_ms()), redis.call('HGET', shard, 'marker') or '', streams, described(later), described(dead),
  redis.call('HGETALL', groups), taken}
