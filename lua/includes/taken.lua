--- @include "includes/stored"
--- @include "includes/fmt"
-- How many dead letters were redriven or discarded: the stream counts all that ever came, so the others that are not in
-- it were dropped for want of room.
local function taken_check(shard)
  return stored('shard', redis.call('HGET', shard, 'dead_taken'))
end

local function taken_apply(shard, before, count)
  redis.call('HSET', shard, 'dead_taken', fmt(before + count))
end
