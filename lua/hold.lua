#!lua
-- hold: a worker's sign of life: what it has stays its own for a while longer.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        held_critical zset lukhas:{t}:group:<group>:held:critical
--        held_high  zset    lukhas:{t}:group:<group>:held:high
--        held_normal zset   lukhas:{t}:group:<group>:held:normal
--        held_low   zset    lukhas:{t}:group:<group>:held:low
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- ARGV   @tenant
--        group      name    the consumer group
--        consumer   name    the worker
--        hold_ms    int     how long from now
--        delivery... text   rank, stream id and number of deliveries of each; at most 100
-- OK     OK dry (MINE, FENCED or GONE)...
--- @include "includes/distinct"
--- @include "includes/now_ms"
--- @include "includes/tenant"
--- @include "includes/delivery"
local critical, high, normal, low, held_critical, held_high, held_normal, held_low, flags, shard = unpack(KEYS)
local dry, mode, shards, marker, group, consumer, hold_ms = unpack(ARGV)
local keys = {streams = {critical, high, normal, low}, held = {held_critical, held_high, held_normal, held_low}}
distinct(KEYS)
hold_ms = whole('hold_ms', hold_ms, 1, 86400000)
if #ARGV % 3 ~= 1 or #ARGV > 307 then refuse('ARGUMENT', 'name=delivery') end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local until_ms = fmt(now_ms() + hold_ms)
local answer, mine = {'OK', tenant.dry and '1' or '0'}, {}
for i = 8, #ARGV, 3 do
  local rank, sid, deliveries = delivery_checked(ARGV[i], ARGV[i + 1], ARGV[i + 2])
  local state = delivery_state(keys, group, consumer, rank, sid, deliveries)
  redis.call('ZCARD', keys.held[rank])
  answer[#answer + 1] = state
  if state == 'MINE' then mine[#mine + 1] = {rank, sid} end
end
if tenant.dry then return answer end

-- writes
for _, one in ipairs(mine) do redis.call('ZADD', keys.held[one[1]], until_ms, one[2]) end
return answer
