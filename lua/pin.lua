#!lua
-- pin: protect a context from eviction (or no longer); its deadline stays.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        index      zset    lukhas:{t}:index
--        order      zset    lukhas:{t}:order
--        tombs      zset    lukhas:{t}:tombs
--        events     stream  lukhas:{t}:events
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
--        req        string  lukhas:{t}:req:<request_id>
-- ARGV   @request
--        @tenant
--        @keeping
--        @lease
--        id         uuid    the context
--        pinned=1   flag    0 = unpin
-- OK     OK dry id version pinned
-- EMITS  context.pin
-- FCALL  ctx
--- @include "includes/distinct"
--- @include "includes/matching"
--- @include "includes/now_ms"
--- @include "includes/request"
--- @include "includes/tenant"
--- @include "includes/keeping"
--- @include "includes/lease"
--- @include "includes/present"
--- @include "includes/stored"
--- @include "includes/emit"
local ctx, index, order, tombs, events, flags, shard, req = unpack(KEYS)
local request_id, request, durable, retention_ms, dry, mode, shards, marker, window, grace_ms, max_tombs, lease, id, pinned = unpack(ARGV)
distinct(KEYS)
matching('pinned', pinned, '^[01]$')
retention_ms = whole('retention_ms', retention_ms, 1, 1e10)
local keep = keeping_of(window, grace_ms, max_tombs)

local earlier = request_check(req, request_id, request, durable)
if earlier then return earlier end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, false)
local now = now_ms()
local found = present({ctx = ctx, index = index, tombs = tombs, shard = shard}, id, now, marker, 'updated_ms', 'lease')
lease_check(ctx, found[3], lease, now)
local updated = stored('ctx', found[2])
redis.call('ZCARD', order)
local answer = {'OK', tenant.dry and '1' or '0', id, fmt(stored('ctx', found[1])), pinned}
if tenant.dry then return answer end

-- writes
emit(events, keep.window, 'context.pin', id, found[1])
if pinned == '1' then
  redis.call('HSET', ctx, 'pinned', '1')
  redis.call('ZREM', order, id)
else
  redis.call('HDEL', ctx, 'pinned')
  redis.call('ZADD', order, fmt(updated), id)
end
request_apply(req, request_id, request, retention_ms, answer)
return answer
