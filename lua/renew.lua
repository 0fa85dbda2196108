#!lua
-- renew: let a live lease end later (or sooner): `lease_ms` from now.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        index      zset    lukhas:{t}:index
--        tombs      zset    lukhas:{t}:tombs
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
--        req        string  lukhas:{t}:req:<request_id>
-- ARGV   @request
--        @tenant
--        @lease
--        id         uuid    the context
--        lease_ms   int     for how long from now
-- OK     OK dry id token until_ms owner
-- FCALL  ctx
--- @include "includes/distinct"
--- @include "includes/matching"
--- @include "includes/whole"
--- @include "includes/now_ms"
--- @include "includes/request"
--- @include "includes/tenant"
--- @include "includes/lease"
--- @include "includes/present"
--- @include "includes/stored"
local ctx, index, tombs, flags, shard, req = unpack(KEYS)
local request_id, request, durable, retention_ms, dry, mode, shards, marker, lease, id, lease_ms = unpack(ARGV)
distinct(KEYS)
matching('lease', lease, '^%d+$')
lease_ms, retention_ms = whole('lease_ms', lease_ms, 1, 31536000000), whole('retention_ms', retention_ms, 1, 1e10)

local earlier = request_check(req, request_id, request, durable)
if earlier then return earlier end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local now = now_ms()
local found = present({ctx = ctx, index = index, tombs = tombs, shard = shard}, id, now, marker, 'lease', 'lease_owner')
lease_check(ctx, found[2], lease, now)
local ends = fmt(now + lease_ms)
local answer = {'OK', tenant.dry and '1' or '0', id, lease, ends, found[3] or ''}
if tenant.dry then return answer end

-- writes
redis.call('HSET', ctx, 'lease', lease .. ' ' .. ends)
request_apply(req, request_id, request, retention_ms, answer)
return answer
