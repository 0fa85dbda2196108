#!lua
-- append: add one segment to a context: items for a list in it, or a merge patch. Costs what is added.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        segs       list    lukhas:{t}:segs:<id>
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
--        more...    any     with a ttl_ms: body, hops and session; then ctx, body, segs, hops and log of each victim
-- ARGV   @request
--        @tenant
--        @limits
--        @keeping
--        @lease
--        event      word    append or patch
--        if_version int     the version the caller saw; -1 = any
--        view       text    "nonce shape" of the data the change was checked against; not looked at with bump
--        bump       flag    1 = the change alters the type of something
--        ttl_ms     int     a new time to live; 0 = keep the deadline
--        sid        text    its session, needed only with a ttl_ms
--        max_segs   int     more segments than this must be folded first
--        max_raw    int     largest context, serialized
--        raw_bytes  int     length of the serialized change
--        payload    bytes   the segment: 16 bytes of header, 32 of digest, the stored change
--        victim...  uuid    contexts the caller agrees to evict
-- OK     OK dry version expires_ms nonce seq evicted chain
--        LOOK               the data has another shape: look again, then repeat
--        FOLD               too much was appended: fold, then repeat
--        SESSION sid        repeat with this session's key declared
--        PURGE              expired contexts are still counted: sweep, then repeat
--        VICTIMS id ...     repeat with these declared
-- ERR    LKCONFLICT         another version is stored: actual
-- EMITS  context.append context.patch context.evict
--- @include "includes/distinct"
--- @include "includes/matching"
--- @include "includes/now_ms"
--- @include "includes/request"
--- @include "includes/tenant"
--- @include "includes/limits"
--- @include "includes/keeping"
--- @include "includes/lease"
--- @include "includes/throttle"
--- @include "includes/present"
--- @include "includes/grown"
--- @include "includes/purge"
--- @include "includes/expired_beyond"
--- @include "includes/capacity"
--- @include "includes/deadline"
--- @include "includes/transition"
local ctx, segs, log, index, order, sizes, usage_key, tombs, events, flags, shard, req = unpack(KEYS)
local request_id, request, durable, retention_ms, dry, mode, shards, marker, max_entries, max_bytes, max_type, policy, rate,
  window, grace_ms, max_tombs, lease, event, if_version, view, bump, ttl_ms, sid, max_segs, max_raw, raw_bytes,
  payload = unpack(ARGV)
distinct(KEYS)
local counted = ({append = 'appended', patch = 'patched'})[event] or refuse('ARGUMENT', 'name=event')
matching('bump', bump, '^[01]$')
matching('payload', payload, '^LKSG')
if #payload < 48 then refuse('ARGUMENT', 'name=payload') end
if_version, ttl_ms = whole('if_version', if_version, -1, 1e15), whole('ttl_ms', ttl_ms, 0, 31536000000)
max_segs, max_raw, raw_bytes = whole('max_segs', max_segs, 1, 1e6), whole('max_raw', max_raw, 1, 1e10), whole('raw_bytes', raw_bytes, 1, 1e10)
retention_ms = whole('retention_ms', retention_ms, 1, 1e10)
local moving = ttl_ms > 0 and 3 or 0
local declared = {unpack(ARGV, 28)}
if #declared > 100 or #KEYS ~= 12 + moving + 5 * #declared then refuse('ARGUMENT', 'name=victim') end
local keys = {ctx = ctx, segs = segs, log = log, index = index, order = order, sizes = sizes, events = events, tombs = tombs,
  shard = shard, body = KEYS[13], hops = KEYS[14], session = KEYS[15]}
local id, keep = string.sub(ctx, -36), keeping_of(window, grace_ms, max_tombs)

local earlier = request_check(req, request_id, request, durable)
if earlier then return earlier end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, false)
local limits = limits_of(tenant, max_entries, max_bytes, max_type, policy, rate)
local now = now_ms()
local found = present(keys, id, now, marker, 'nonce', 'seq', 'type', 'accessed_ms', 'updated_ms', 'expires_ms', 'pinned',
  'raw_bytes', 'stored_bytes', 'digest', 'lease', 'session', 'shape', 'chain', 'segs', 'segs_bytes', 'segs_raw')
local version, seq, deadline = stored('ctx', found[1]) + 1, stored('ctx', found[3]) + 1, stored('ctx', found[7])
if deadline <= now then absent(keys, id, now, marker) end
local nonce, type = found[2] or refuse('CORRUPT', 'key=ctx'), found[4] or refuse('CORRUPT', 'key=ctx')
local state = stored('ctx', found[5]) >= stored('ctx', found[6]) and 'restored' or 'preserved'
lease_check(ctx, found[12], lease, now)
if if_version >= 0 and if_version ~= version - 1 then refuse('CONFLICT', 'actual=' .. fmt(version - 1)) end
local grown = grown_of(segs, found[11], found[3], found[14], found[15], found[16], found[17], found[18])
if bump == '0' and view ~= nonce .. ' ' .. grown.shape then return {'LOOK'} end
local raw = stored('ctx', found[9]) + grown.raw + raw_bytes
if grown.count >= max_segs or raw > max_raw then return {'FOLD'} end
local moved
if moving > 0 then
  if found[13] ~= sid then return {'SESSION', found[13] or refuse('CORRUPT', 'key=ctx')} end
  redis.call('ZCARD', index)
  deadline, moved = now + ttl_ms, deadline_check(keys, now)
end
redis.call('LLEN', log)
redis.call('ZCARD', order)

local usage = usage_check(usage_key, counted, 'rate_at', 'rate_left')
local size, bytes = redis.call('HGET', sizes, id), stored('ctx', found[10]) + grown.bytes + #payload
if size then account_remove(usage, size) end
account_add(usage, bytes, type)
local new = {bytes = bytes, is_entry = not size, grows = true}
local over = capacity_over(usage, limits, new, type)
local victims, purge = {ids = {}}, nil
if over and redis.call('ZCOUNT', index, '-inf', '(' .. now) > 0 then
  if not tenant.dry then return {'PURGE'} end
  expired_beyond(keys, usage, now, 0)
  over = capacity_over(usage, limits, new, type)
end
if over then
  local enough
  victims, enough = capacity_victims(keys, limits, over, {[id] = true})
  if not tenant.dry and not evict_declared(victims, declared) then return {'VICTIMS', unpack(victims.ids)} end
  if not enough then refuse('FULL', 'scope=bytes limit=' .. fmt(limits.max_bytes)) end
  purge = purge_plan(usage, bury_check(tombs, now, keep.grace_ms, keep.max_tombs))
  for i, victim in ipairs(victims.ids) do purge_add(purge, victim, victims.sizes[i], 'evicted', now) end
end
throttle_check(usage, now, limits.rate, #payload)
usage_add(usage, counted, 1)
local chain = redis.sha1hex(grown.chain .. string.sub(payload, 17, 48))
local answer = {'OK', tenant.dry and '1' or '0', fmt(version), fmt(deadline), nonce, fmt(seq), fmt(#victims.ids), chain}
if tenant.dry then return answer end

-- writes
if purge then purge_emit(purge, keys, keep.window) end
emit(events, keep.window, 'context.' .. event, id, fmt(version))
if purge then
  purge_apply(purge, keys)
  evict_apply(victims, declared, {unpack(KEYS, 13 + moving)})
  bury_apply(purge.graves)
end
usage_apply(usage)
if grown.count == 0 then redis.call('UNLINK', segs) end
redis.call('RPUSH', segs, payload)
redis.call('PEXPIREAT', segs, fmt(deadline))
redis.call('HSET', ctx, 'version', fmt(version), 'seq', fmt(seq), 'updated_ms', fmt(now), 'chain', chain,
  'segs', fmt(grown.count + 1), 'segs_bytes', fmt(grown.bytes + #payload), 'segs_raw', fmt(grown.raw + raw_bytes))
if grown.first then redis.call('HSET', ctx, 'root', grown.chain, 'shape', grown.shape) end
if bump == '1' then redis.call('HSET', ctx, 'shape', fmt(seq)) end
transition(log, fmt(deadline), fmt(now), state, 'preserved')
if not found[8] then redis.call('ZADD', order, fmt(now), id) end
redis.call('HSET', sizes, id, fmt(bytes) .. ' ' .. type)
if moved then deadline_apply(keys, moved, id, deadline, ttl_ms, keep.grace_ms) end
request_apply(req, request_id, request, retention_ms, answer)
return answer
