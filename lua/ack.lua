#!lua
-- ack: finish deliveries, each only if the worker still has it.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
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
--        delivery... text   rank, stream id and number of deliveries of each; at most 100
-- OK     OK dry (DONE, FENCED or GONE)...   GONE: it was finished before, by this worker or another
--- @include "includes/distinct"
--- @include "includes/now_ms"
--- @include "includes/tenant"
--- @include "includes/delivery"
--- @include "includes/tally"
--- @include "includes/wake"
local critical, high, normal, low, wake, group_key, held_critical, held_high, held_normal, held_low, parked, busy, flags,
  shard = unpack(KEYS)
local dry, mode, shards, marker, group, consumer = unpack(ARGV)
local keys = {streams = {critical, high, normal, low}, held = {held_critical, held_high, held_normal, held_low},
  parked = parked, busy = busy}
distinct(KEYS)
if #ARGV % 3 ~= 0 or #ARGV > 306 then refuse('ARGUMENT', 'name=delivery') end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local now = now_ms()
local tally = tally_check(group_key, 'done')
delivery_check(keys)
redis.call('XLEN', wake)
local answer, mine, seen = {'OK', tenant.dry and '1' or '0'}, {}, {}
for i = 7, #ARGV, 3 do
  local rank, sid, deliveries = delivery_checked(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  local state = seen[rank .. '/' .. sid] and 'GONE' or delivery_state(keys, group, consumer, rank, sid, deliveries)
  seen[rank .. '/' .. sid] = true
  answer[#answer + 1] = state == 'MINE' and 'DONE' or state
  if state == 'MINE' then mine[#mine + 1] = {rank, sid} end
end
if tenant.dry or #mine == 0 then return answer end

-- writes
local heirs = false
for _, one in ipairs(mine) do heirs = delivery_finish(keys, group, one[1], one[2], now) or heirs end
tally_add(tally, 'done', #mine)
tally_apply(tally)
if heirs then wake_one(wake) end
return answer
