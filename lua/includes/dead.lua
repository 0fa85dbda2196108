--- @include "includes/fmt"
--- @include "includes/ranks"
-- Put an event among the dead letters, with where it comes from and why; answers the letter's id.
local function dead_apply(dead, max_dead, group, rank, sid, fields, why)
  return redis.call('XADD', dead, 'MAXLEN', '~', max_dead, '*', 'group', group, 'priority', rank_name(rank), 'stream_id', sid,
    'reason', why.reason, 'handler', why.handler, 'error', why.error, 'deliveries', fmt(why.deliveries),
    'consumer', why.consumer, 'died', fmt(why.now), unpack(fields))
end
