#!lua
-- release: end a live lease.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        index      zset    lukhas:{t}:index
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
-- OK     OK dry id token
-- EMITS  context.release
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
local ctx, index, tombs, events, flags, shard, req = unpack(KEYS)
local request_id, request, durable, retention_ms, dry, mode, shards, marker, window, grace_ms, max_tombs, lease, id = unpack(ARGV)
distinct(KEYS)
matching('lease', lease, '^%d+$')
retention_ms = whole('retention_ms', retention_ms, 1, 1e10)
local keep = keeping_of(window, grace_ms, max_tombs)

local earlier = request_check(req, request_id, request, durable)
if earlier then return earlier end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local now = now_ms()
local found = present({ctx = ctx, index = index, tombs = tombs, shard = shard}, id, now, marker, 'lease')
lease_check(ctx, found[2], lease, now)
local answer = {'OK', tenant.dry and '1' or '0', id, lease}
if tenant.dry then return answer end

-- writes
emit(events, keep.window, 'context.release', id, found[1])
redis.call('HDEL', ctx, 'lease', 'lease_owner')
request_apply(req, request_id, request, retention_ms, answer)
return answer
