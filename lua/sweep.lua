#!lua flags=allow-oom
-- sweep: take a bounded number of expired contexts out of the accounts, with an event for each.
--
-- KEYS   index      zset    lukhas:{t}:index
--        order      zset    lukhas:{t}:order
--        sizes      hash    lukhas:{t}:sizes
--        usage      hash    lukhas:{t}:usage
--        tombs      zset    lukhas:{t}:tombs
--        events     stream  lukhas:{t}:events
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- ARGV   @tenant
--        @keeping
--        most=100   int     contexts a call, 1 to 300
-- OK     OK dry remaining id ...
-- EMITS  context.expire
-- FCALL  index
--- @include "includes/distinct"
--- @include "includes/now_ms"
--- @include "includes/tenant"
--- @include "includes/keeping"
--- @include "includes/purge"
local index, order, sizes, usage_key, tombs, events, flags, shard = unpack(KEYS)
local dry, mode, shards, marker, window, grace_ms, max_tombs, most = unpack(ARGV)
local keys = {index = index, order = order, sizes = sizes, events = events}
distinct(KEYS)
most = whole('most', most, 1, 300)
local keep = keeping_of(window, grace_ms, max_tombs)
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local now = now_ms()
redis.call('ZCARD', order)
local usage = usage_check(usage_key, 'expired')
local purge = purge_plan(usage, bury_check(tombs, now, keep.grace_ms, keep.max_tombs))
purge_expired(purge, keys, now, most)
local remaining = redis.call('ZCOUNT', index, '-inf', '(' .. fmt(now)) - #purge.ids
local answer = {'OK', tenant.dry and '1' or '0', fmt(remaining), unpack(purge.ids)}
if tenant.dry then return answer end

-- writes
purge_emit(purge, keys, keep.window)
purge_apply(purge, keys)
if #purge.ids > 0 then usage_apply(usage) end
bury_apply(purge.graves)
return answer
