#!lua
-- handoff: pass a context from one provider to the next: owner, version, hop, deadline and event together.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        body       string  lukhas:{t}:body:<id>
--        segs       list    lukhas:{t}:segs:<id>
--        hops       list    lukhas:{t}:hops:<id>
--        log        list    lukhas:{t}:log:<id>
--        index      zset    lukhas:{t}:index
--        usage      hash    lukhas:{t}:usage
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
--        sid=       text    its session, needed only with a ttl_ms
--        source     name    the provider that hands it over
--        destination name   the provider that takes it
--        if_version=-1 int  the version the caller saw; -1 = any
--        ttl_ms=0   int     a new time to live; 0 = keep the deadline
--        note=      text    up to 1024 bytes kept with the hop
--        previous_us=0 int  how long the caller's hop before this one took, in microseconds
-- OK     OK dry id version hop expires_ms
--        SESSION sid        repeat with this session's key declared
-- ERR    LKCONFLICT         another version is stored: actual
--        LKOWNER            another provider owns it: owner
-- EMITS  context.handoff
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
--- @include "includes/usage"
--- @include "includes/deadline"
--- @include "includes/emit"
local ctx, body, segs, hops, log, index, usage_key, tombs, session, events, flags, shard, req = unpack(KEYS)
local request_id, request, durable, retention_ms, dry, mode, shards, marker, window, grace_ms, max_tombs, lease,
  id, sid, source, destination, if_version, ttl_ms, note, previous_us = unpack(ARGV)
local keys = {ctx = ctx, body = body, segs = segs, hops = hops, log = log, index = index, tombs = tombs, session = session, shard = shard}
distinct(KEYS)
matching('source', source, '^[%w_.-]+$')
matching('destination', destination, '^[%w_.-]+$')
if_version, ttl_ms = whole('if_version', if_version, -1, 1e15), whole('ttl_ms', ttl_ms, 0, 31536000000)
previous_us, retention_ms = whole('previous_us', previous_us, 0, 1e15), whole('retention_ms', retention_ms, 1, 1e10)
if #note > 1024 then refuse('ARGUMENT', 'name=note') end
local keep = keeping_of(window, grace_ms, max_tombs)

local earlier = request_check(req, request_id, request, durable)
if earlier then return earlier end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, false)
local now = now_ms()
local found = present(keys, id, now, marker, 'owner', 'hops', 'expires_ms', 'session', 'lease')
local version, hop, deadline = stored('ctx', found[1]) + 1, stored('ctx', found[3]) + 1, stored('ctx', found[4])
lease_check(ctx, found[6], lease, now)
if if_version >= 0 and if_version ~= version - 1 then refuse('CONFLICT', 'actual=' .. fmt(version - 1)) end
if found[2] and found[2] ~= source then refuse('OWNER', 'owner=' .. (string.match(found[2], '^[%w_.-]+$') or '?')) end
redis.call('LLEN', hops)
local usage, moved = usage_check(usage_key, 'handed_off'), nil
if ttl_ms > 0 then
  if found[5] ~= sid then return {'SESSION', found[5] or refuse('CORRUPT', 'key=ctx')} end
  deadline, moved = now + ttl_ms, deadline_check(keys, now)
  redis.call('ZSCORE', index, id)
end
local answer = {'OK', tenant.dry and '1' or '0', id, fmt(version), fmt(hop), fmt(deadline)}
if tenant.dry then return answer end
usage_add(usage, 'handed_off', 1)

-- writes
emit(events, keep.window, 'context.handoff', id, fmt(version))
redis.call('HSET', ctx, 'version', fmt(version), 'owner', destination, 'hops', fmt(hop))
redis.call('RPUSH', hops, table.concat({'hop=' .. fmt(hop), 'at=' .. fmt(now), 'from=' .. source, 'to=' .. destination,
  'version=' .. fmt(version), 'previous_us=' .. fmt(previous_us), 'note=' .. note}, ' '))
redis.call('LTRIM', hops, -32, -1)
redis.call('PEXPIREAT', hops, fmt(deadline))
if moved then deadline_apply(keys, moved, id, deadline, ttl_ms, keep.grace_ms) end
usage_apply(usage)
request_apply(req, request_id, request, retention_ms, answer)
return answer
