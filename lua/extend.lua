#!lua
-- extend: move a context's deadline later, never earlier.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        body       string  lukhas:{t}:body:<id>
--        segs       list    lukhas:{t}:segs:<id>
--        hops       list    lukhas:{t}:hops:<id>
--        log        list    lukhas:{t}:log:<id>
--        index      zset    lukhas:{t}:index
--        tombs      zset    lukhas:{t}:tombs
--        session    zset    lukhas:{t}:session:<session>
--        events     stream  lukhas:{t}:events
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
--        req        string  lukhas:{t}:req:<request_id>
-- ARGV   @request
--        @tenant
--        @keeping
--        @lease
--        id         uuid    the context
--        sid=       text    its session
--        ttl_ms     int     at least this long from now
-- OK     OK dry id version expires_ms
--        SESSION sid        repeat with this session's key declared
-- EMITS  context.extend
-- FCALL  ctx
--- @include "includes/distinct"
--- @include "includes/now_ms"
--- @include "includes/request"
--- @include "includes/tenant"
--- @include "includes/keeping"
--- @include "includes/lease"
--- @include "includes/present"
--- @include "includes/stored"
--- @include "includes/deadline"
--- @include "includes/emit"
local ctx, body, segs, hops, log, index, tombs, session, events, flags, shard, req = unpack(KEYS)
local request_id, request, durable, retention_ms, dry, mode, shards, marker, window, grace_ms, max_tombs, lease, id, sid, ttl_ms = unpack(ARGV)
local keys = {ctx = ctx, body = body, segs = segs, hops = hops, log = log, index = index, tombs = tombs, session = session, shard = shard}
distinct(KEYS)
ttl_ms, retention_ms = whole('ttl_ms', ttl_ms, 1, 31536000000), whole('retention_ms', retention_ms, 1, 1e10)
local keep = keeping_of(window, grace_ms, max_tombs)

local earlier = request_check(req, request_id, request, durable)
if earlier then return earlier end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, false)
local now = now_ms()
local found = present(keys, id, now, marker, 'session', 'expires_ms', 'lease')
lease_check(ctx, found[4], lease, now)
if found[2] ~= sid then return {'SESSION', found[2] or refuse('CORRUPT', 'key=ctx')} end
redis.call('ZSCORE', index, id)
local plan, old = deadline_check(keys, now), stored('ctx', found[3])
local deadline = math.max(old, now + ttl_ms)
local answer = {'OK', tenant.dry and '1' or '0', id, fmt(stored('ctx', found[1])), fmt(deadline)}
if tenant.dry then return answer end

-- writes
if deadline > old then
  emit(events, keep.window, 'context.extend', id, found[1])
  deadline_apply(keys, plan, id, deadline, ttl_ms, keep.grace_ms)
end
request_apply(req, request_id, request, retention_ms, answer)
return answer
