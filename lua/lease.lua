#!lua
-- lease: let one owner alone write a context for a while, under a fencing token that only ever grows.
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
--        id         uuid    the context
--        owner      name    who holds it
--        lease_ms   int     for how long
-- OK     OK dry id token until_ms owner
-- EMITS  context.lease
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
local request_id, request, durable, retention_ms, dry, mode, shards, marker, window, grace_ms, max_tombs, id, owner, lease_ms = unpack(ARGV)
distinct(KEYS)
matching('owner', owner, '^[%w_.-]+$')
lease_ms, retention_ms = whole('lease_ms', lease_ms, 1, 31536000000), whole('retention_ms', retention_ms, 1, 1e10)
local keep = keeping_of(window, grace_ms, max_tombs)

local earlier = request_check(req, request_id, request, durable)
if earlier then return earlier end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, false)
local now = now_ms()
local found = present({ctx = ctx, index = index, tombs = tombs, shard = shard}, id, now, marker, 'lease')
lease_check(ctx, found[2], '', now)
-- Not below the clock: tokens keep growing when the counter was lost with the server's data or by a failover.
local token = math.max(stored('shard', redis.call('HGET', shard, 'fence')) + 1, now)
local ends = fmt(now + lease_ms)
local answer = {'OK', tenant.dry and '1' or '0', id, fmt(token), ends, owner}
if tenant.dry then return answer end

-- writes
emit(events, keep.window, 'context.lease', id, found[1])
redis.call('HSET', shard, 'fence', fmt(token))
redis.call('HSET', ctx, 'lease', fmt(token) .. ' ' .. ends, 'lease_owner', owner)
request_apply(req, request_id, request, retention_ms, answer)
return answer
