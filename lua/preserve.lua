#!lua
-- preserve: store a context whole, under a version check, within the tenant's limits.
-- An append or patch too large to travel as a segment comes this way too: it keeps the deadline and has its own event.
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
--        session    zset    lukhas:{t}:session:<session>
--        events     stream  lukhas:{t}:events
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
--        req        string  lukhas:{t}:req:<request_id>
--        stage      string  lukhas:{t}:stage:<token>
--        victim...  any     ctx, body, segs, hops and log of each victim
-- ARGV   @request
--        @tenant
--        @limits
--        @keeping
--        @lease
--        id         uuid    the context
--        sid        text    its session
--        type       name    its type
--        ttl_ms     int     time to live; 0 = keep the deadline of the context that is there
--        if_version int     the version the caller saw; 0 = must not exist, -1 = any
--        raw_bytes  int     length of the serialized data
--        bytes      int     length of the stored bytes
--        level      int     compression level
--        checksum   hex     SHA-256 of the serialized data
--        digest     hex     digest of the stored bytes, bound to the id
--        nonce      hex     names the incarnation, if this call makes one; that the caller saw, if it is an append or patch
--        staged     int     0 = payload holds the bytes; 1 = they wait in `stage`; 2 = they stayed at home (dry run)
--        event      word    preserve, append or patch: what the write is called
--        payload    bytes   the stored bytes, or (staged 1, 2) the header of their envelope
--        victim...  uuid    contexts the caller agrees to evict
-- OK     OK dry version expires_ms nonce seq evicted created_ms id
--        PURGE              expired contexts are still counted: sweep, then repeat
--        VICTIMS id ...     repeat with these declared
--        AGAIN              some room was made, more is needed: repeat
--        LIVE               this is no dry run: repeat with the stored bytes
-- ERR    LKABSENT           an append or patch found no context: reason, since
--        LKCONFLICT         another version is stored: actual
--        LKSESSION          the context belongs to another session
-- EMITS  context.preserve context.append context.patch context.expire context.evict context.lose
--- @include "includes/distinct"
--- @include "includes/matching"
--- @include "includes/now_ms"
--- @include "includes/request"
--- @include "includes/tenant"
--- @include "includes/limits"
--- @include "includes/keeping"
--- @include "includes/lease"
--- @include "includes/present"
--- @include "includes/throttle"
--- @include "includes/incarnation"
--- @include "includes/purge"
--- @include "includes/expired_beyond"
--- @include "includes/capacity"
--- @include "includes/session"
--- @include "includes/stage"
local ctx, body, segs, hops, log, index, order, sizes, usage_key, tombs, session, events, flags, shard, req, stage = unpack(KEYS)
local request_id, request, durable, retention_ms, dry, mode, shards, marker, max_entries, max_bytes, max_type, policy, rate,
  window, grace_ms, max_tombs, lease, id, sid, type, ttl_ms, if_version, raw_bytes, bytes, level, checksum, digest, nonce,
  staged, event, payload = unpack(ARGV)
local keys = {ctx = ctx, body = body, segs = segs, hops = hops, log = log, index = index, order = order, sizes = sizes, events = events,
  tombs = tombs, shard = shard}
distinct(KEYS)
matching('id', id, '^[0-9a-f-]+$')
matching('type', type, '^[%w_.-]+$')
matching('staged', staged, '^[012]$')
local counted = ({preserve = 'preserved', append = 'appended', patch = 'patched'})[event] or refuse('ARGUMENT', 'name=event')
ttl_ms, if_version, bytes = whole('ttl_ms', ttl_ms, 0, 31536000000), whole('if_version', if_version, -1, 1e15), whole('bytes', bytes, 1, 1e10)
raw_bytes, level, retention_ms = whole('raw_bytes', raw_bytes, 0, 1e10), whole('level', level, 0, 99), whole('retention_ms', retention_ms, 1, 1e10)
if staged == '0' and #payload ~= bytes then refuse('ARGUMENT', 'name=bytes') end
local declared = {unpack(ARGV, 32)}
if #declared > 100 or #KEYS ~= 16 + 5 * #declared then refuse('ARGUMENT', 'name=victim') end
local keep = keeping_of(window, grace_ms, max_tombs)

local earlier = request_check(req, request_id, request, durable)
if earlier then return earlier end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, false)
if staged == '2' and not tenant.dry then return {'LIVE'} end
local limits = limits_of(tenant, max_entries, max_bytes, max_type, policy, rate)
local now = now_ms()
local old = incarnation_check(keys, now)
redis.call('ZCARD', order)
if ttl_ms == 0 and not old.live then absent(keys, id, now, marker) end
lease_check(ctx, old.lease, lease, now)
if if_version >= 0 and if_version ~= old.version or if_version > 0 and event ~= 'preserve' and old.nonce ~= nonce then
  refuse('CONFLICT', 'actual=' .. fmt(old.version))
end
if old.live and old.session ~= sid then refuse('SESSION') end
if staged == '1' and not tenant.dry then stage_check(stage, bytes, payload) end

local share = 'entries:' .. type
local usage = usage_check(usage_key, counted, 'rate_at', 'rate_left', share)
local purge = purge_plan(usage, bury_check(tombs, now, keep.grace_ms, keep.max_tombs))
local purged = purge_expired(purge, keys, now, 8)
local size = redis.call('HGET', sizes, id)
if old.live then
  if size then account_remove(usage, size) end
elseif size then
  local deadline = tonumber(redis.call('ZSCORE', index, id) or now)
  purge_add(purge, id, size, deadline < now and 'expired' or 'lost', deadline)
end
local was_bytes, was_type = account_split(old.live and size)
account_add(usage, bytes, type)

local new = {bytes = bytes, is_entry = not (old.live and size), grows = bytes > was_bytes, is_type = was_type ~= type}
local over, victims, enough = capacity_over(usage, limits, new, type), {ids = {}, sizes = {}}, true
if over and redis.call('ZCOUNT', index, '-inf', '(' .. now) > purged then
  if not tenant.dry then return {'PURGE'} end
  expired_beyond(keys, usage, now, purged)
  over = capacity_over(usage, limits, new, type)
end
if over then
  purge.is[id] = true
  victims, enough = capacity_victims(keys, limits, over, purge.is)
  if not tenant.dry and not evict_declared(victims, declared) then return {'VICTIMS', unpack(victims.ids)} end
  for i, victim in ipairs(victims.ids) do purge_add(purge, victim, victims.sizes[i], 'evicted', now) end
end
if enough then throttle_check(usage, now, limits.rate, bytes) end
local gone = session_check(session, now)
local version, deadline = fmt(old.version + 1), fmt(ttl_ms > 0 and now + ttl_ms or old.deadline)
local answer = {'OK', tenant.dry and '1' or '0', version, deadline, old.nonce or nonce, fmt(old.seq + 1), fmt(#victims.ids),
  fmt(old.created_ms), id}
if tenant.dry then return answer end
if not enough then
  account_remove(usage, fmt(bytes) .. ' ' .. type)
  if old.live and size then account_add(usage, was_bytes, was_type) end
end
usage_add(usage, counted, enough and 1 or 0)

-- writes
purge_emit(purge, keys, keep.window)
if enough then emit(events, keep.window, 'context.' .. event, id, version) end
purge_apply(purge, keys)
evict_apply(victims, declared, {unpack(KEYS, 17)})
usage_apply(usage)
bury_apply(purge.graves)
if not enough then return {'AGAIN'} end
incarnation_apply(keys, old, now, deadline, nonce, {'session', sid, 'type', type, 'ttl_ms', fmt(ttl_ms > 0 and ttl_ms or old.ttl_ms),
  'raw_bytes', fmt(raw_bytes), 'stored_bytes', fmt(bytes), 'level', fmt(level), 'checksum', checksum, 'digest', digest})
if staged == '1' then
  redis.call('RENAME', stage, body)
  redis.call('PEXPIREAT', body, deadline)
else
  redis.call('SET', body, payload, 'PXAT', deadline)
end
redis.call('ZADD', index, deadline, id)
if not old.pinned then redis.call('ZADD', order, fmt(now), id) end
redis.call('HSET', sizes, id, fmt(bytes) .. ' ' .. type)
if not old.live then bury_lift(purge.graves, id) end
session_apply(session, gone, id, deadline, keep.grace_ms)
request_apply(req, request_id, request, retention_ms, answer)
return answer
