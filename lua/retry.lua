#!lua
-- retry: give an event back to be handled again later, or, after too many deliveries, among the dead letters.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        dead       stream  lukhas:{t}:bus:dead
--        wake       stream  lukhas:{t}:bus:wake
--        group_key  hash    lukhas:{t}:group:<group>
--        held_critical zset lukhas:{t}:group:<group>:held:critical
--        held_high  zset    lukhas:{t}:group:<group>:held:high
--        held_normal zset   lukhas:{t}:group:<group>:held:normal
--        held_low   zset    lukhas:{t}:group:<group>:held:low
--        parked     zset    lukhas:{t}:group:<group>:parked
--        busy       hash    lukhas:{t}:group:<group>:busy
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- ARGV   @tenant
--        group      name    the consumer group
--        consumer   name    the worker
--        rank       int     1 = critical to 4 = low
--        stream_id  text    the delivery: its stream id,
--        deliveries int     and how often it was delivered
--        delay_ms   int     how long it waits
--        max_deliveries int so many or more: a dead letter; 0 = always
--        counted    flag    0 = this delivery does not count: it was never handled
--        max_dead   int     dead letters kept
--        reason     text    why: error, timeout, rejected, payload
--        handler    text    what failed
--        message    text    how
-- OK     RETRY due_ms
--        DEAD stream_id
--        FENCED             another worker has it, or the group was lost
--        GONE               it was finished before
--        DRY                nothing was changed
--- @include "includes/distinct"
--- @include "includes/now_ms"
--- @include "includes/tenant"
--- @include "includes/delivery"
--- @include "includes/tally"
--- @include "includes/dead"
--- @include "includes/wake"
local critical, high, normal, low, dead, wake, group_key, held_critical, held_high, held_normal, held_low, parked, busy,
  flags, shard = unpack(KEYS)
local dry, mode, shards, marker, group, consumer, rank, stream_id, deliveries, delay_ms, max_deliveries, counted, max_dead,
  reason, handler, message = unpack(ARGV)
local keys = {streams = {critical, high, normal, low}, held = {held_critical, held_high, held_normal, held_low},
  parked = parked, busy = busy}
distinct(KEYS)
rank, stream_id, deliveries = delivery_checked(rank, stream_id, deliveries)
delay_ms, max_deliveries = whole('delay_ms', delay_ms, 0, 31536000000), whole('max_deliveries', max_deliveries, 0, 1e6)
max_dead = whole('max_dead', max_dead, 1, 1e9)
matching('counted', counted, '^[01]$')
if #reason > 64 or #handler > 256 or #message > 4096 then refuse('ARGUMENT', 'name=message') end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local now = now_ms()
local state = delivery_state(keys, group, consumer, rank, stream_id, deliveries)
if state ~= 'MINE' then return {state} end
local tally = tally_check(group_key, 'retried', 'dead', 'lost')
delivery_check(keys)
redis.call('XLEN', dead)
redis.call('XLEN', wake)
if tenant.dry then return {'DRY'} end

-- writes
if counted == '0' or deliveries < max_deliveries then
  local due_ms = fmt(now + delay_ms)
  redis.call('XCLAIM', keys.streams[rank], group, '@waiting', 0, stream_id, 'RETRYCOUNT', deliveries - 1 + counted, 'JUSTID')
  redis.call('ZADD', keys.held[rank], due_ms, stream_id)
  tally_add(tally, 'retried', tonumber(counted))
  tally_apply(tally)
  wake_one(wake)
  return {'RETRY', due_ms}
end
local entry = redis.call('XRANGE', keys.streams[rank], stream_id, stream_id)[1]
local letter = entry and dead_apply(dead, max_dead, group, rank, stream_id, entry[2], {reason = reason, handler = handler,
  error = message, deliveries = deliveries, consumer = consumer, now = now})
tally_add(tally, entry and 'dead' or 'lost', 1)
tally_apply(tally)
if delivery_finish(keys, group, rank, stream_id, now) then wake_one(wake) end
return {'DEAD', letter or '0-0'}
