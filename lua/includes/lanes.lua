--- @include "includes/fmt"
-- Ordering keys: of the events with one key and priority, a group has one in hand at a time. `busy` says which (lane to
-- stream id, and back), `parked` keeps those that wait, in the order of their ids. A parked event is read from the
-- stream once and never looked at again until its turn, so a busy key costs nothing.
local function lane_of(key, rank)
  return redis.sha1hex(key) .. ':' .. rank
end

local function lane_padded(sid)
  local ms, seq = string.match(sid, '^(%d+)%-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end

-- Take the lane, or wait for it; answers whether it was free.
local function lane_enter(keys, lane, rank, sid)
  if redis.call('HSETNX', keys.busy, lane, sid) == 1 then
    redis.call('HSET', keys.busy, rank .. '/' .. sid, lane)
    return true
  end
  redis.call('ZADD', keys.parked, 0, lane .. ':' .. lane_padded(sid))
  return false
end

-- Let the lane go to the next event that waits for it; answers whether there was one.
local function lane_leave(keys, rank, sid, now)
  local mark = rank .. '/' .. sid
  local lane = redis.call('HGET', keys.busy, mark)
  if not lane then return false end
  redis.call('HDEL', keys.busy, mark, lane)
  local first, ms, seq
  repeat
    first = redis.call('ZRANGEBYLEX', keys.parked, '[' .. lane .. ':', '(' .. lane .. ';', 'LIMIT', 0, 1)[1]
    if not first then return false end
    redis.call('ZREM', keys.parked, first)
    ms, seq = string.match(first, ':0*(%d+)%-0*(%d+)$')
  until ms
  local heir = ms .. '-' .. seq
  redis.call('HSET', keys.busy, lane, heir, rank .. '/' .. heir, lane)
  redis.call('ZADD', keys.held[rank], fmt(now), heir)
  return true
end
