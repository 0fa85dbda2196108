--- @include "includes/matching"
--- @include "includes/whole"
--- @include "includes/lanes"
-- One delivery of an event to a consumer of a group. Its fence is who has it pending and how often it was delivered:
-- whoever lost it to another worker has another number (XACK alone does not look at the owner).
--
-- ERR    LKARGUMENT         an argument is not what the header says: name
local function delivery_checked(rank, sid, deliveries)
  matching('stream_id', sid, '^%d+%-%d+$')
  return whole('rank', rank, 1, 4), sid, whole('deliveries', deliveries, 1, 1e9)
end

-- MINE; FENCED: another has it, or the group was lost meanwhile; GONE: it is finished.
local function delivery_state(keys, group, consumer, rank, sid, deliveries)
  local rows = redis.pcall('XPENDING', keys.streams[rank], group, sid, sid, 1)
  if rows.err then
    if string.match(rows.err, '^NOGROUP') then return 'FENCED' end
    error(rows)
  end
  if not rows[1] then return 'GONE' end
  return rows[1][2] == consumer and rows[1][4] == deliveries and 'MINE' or 'FENCED'
end

-- Type checks for delivery_finish.
local function delivery_check(keys)
  for rank = 1, 4 do redis.call('ZCARD', keys.held[rank]) end
  redis.call('ZCARD', keys.parked)
  redis.call('HLEN', keys.busy)
end

-- Done with it, one way or another; answers whether another event became ready by that.
local function delivery_finish(keys, group, rank, sid, now)
  redis.call('XACK', keys.streams[rank], group, sid)
  redis.call('ZREM', keys.held[rank], sid)
  return lane_leave(keys, rank, sid, now)
end
