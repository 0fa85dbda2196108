#!lua flags=allow-oom
-- drop: remove a context and remember that it was dropped; works when memory is full and when paused.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        body       string  lukhas:{t}:body:<id>
--        segs       list    lukhas:{t}:segs:<id>
--        hops       list    lukhas:{t}:hops:<id>
--        log        list    lukhas:{t}:log:<id>
--        index      zset    lukhas:{t}:index
--        order      zset    lukhas:{t}:order
--        sizes      hash    lukhas:{t}:sizes
--        usage      hash    lukhas:{t}:usage
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
--        if_version=-1 int  the version the caller saw; -1 = any
-- OK     OK dry id version
-- ERR    LKCONFLICT         another version is stored: actual
-- EMITS  context.drop
-- FCALL  ctx
--- @include "includes/distinct"
--- @include "includes/now_ms"
--- @include "includes/request"
--- @include "includes/tenant"
--- @include "includes/keeping"
--- @include "includes/lease"
--- @include "includes/present"
--- @include "includes/stored"
--- @include "includes/purge"
local ctx, body, segs, hops, log, index, order, sizes, usage_key, tombs, events, flags, shard, req = unpack(KEYS)
local request_id, request, durable, retention_ms, dry, mode, shards, marker, window, grace_ms, max_tombs, lease, id, if_version = unpack(ARGV)
local keys = {ctx = ctx, index = index, order = order, sizes = sizes, tombs = tombs, shard = shard, events = events}
distinct(KEYS)
if_version, retention_ms = whole('if_version', if_version, -1, 1e15), whole('retention_ms', retention_ms, 1, 1e10)
local keep = keeping_of(window, grace_ms, max_tombs)

local earlier = request_check(req, request_id, request, durable)
if earlier then return earlier end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local now = now_ms()
local found = present(keys, id, now, marker, 'lease')
local version = stored('ctx', found[1])
lease_check(ctx, found[2], lease, now)
if if_version >= 0 and if_version ~= version then refuse('CONFLICT', 'actual=' .. fmt(version)) end
redis.call('STRLEN', body)
redis.call('LLEN', segs)
redis.call('LLEN', hops)
redis.call('LLEN', log)
redis.call('ZCARD', index)
redis.call('ZCARD', order)
local usage = usage_check(usage_key, 'dropped')
local purge = purge_plan(usage, bury_check(tombs, now, keep.grace_ms, keep.max_tombs))
purge_add(purge, id, redis.call('HGET', sizes, id), 'dropped', now)
local answer = {'OK', tenant.dry and '1' or '0', id, fmt(version)}
if tenant.dry then return answer end

-- writes
purge_emit(purge, keys, keep.window)
purge_apply(purge, keys)
redis.call('UNLINK', ctx, body, segs, hops, log)
usage_apply(usage)
bury_apply(purge.graves)
request_apply(req, request_id, request, retention_ms, answer)
return answer
