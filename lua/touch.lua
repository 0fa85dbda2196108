#!lua
-- touch: note that a context was read, at most once an interval; never moves its deadline.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        log        list    lukhas:{t}:log:<id>
--        order      zset    lukhas:{t}:order
--        usage      hash    lukhas:{t}:usage
--        flags      hash    lukhas:{t}:flags
-- ARGV   id         uuid    the context
--        mode=live  word    the tenant's mode until it has one
--        policy=reject word the eviction policy; the tenant's flags outrank it
--        interval_ms=60000 int  how often a read is noted
--        state=restored word  restored, or cached: the reader held the context already
-- OK     OK touched
--- @include "includes/distinct"
--- @include "includes/whole"
--- @include "includes/now_ms"
--- @include "includes/stored"
--- @include "includes/fmt"
--- @include "includes/transition"
local ctx, log, order, usage, flags = unpack(KEYS)
local id, mode, policy, interval_ms, state = unpack(ARGV)
distinct(KEYS)
if state ~= 'restored' and state ~= 'cached' then refuse('ARGUMENT', 'name=state') end
interval_ms = whole('interval_ms', interval_ms, 0, 1e10)
local set = redis.call('HMGET', flags, 'mode', 'policy')
local found = redis.call('HMGET', ctx, 'version', 'accessed_ms', 'updated_ms', 'expires_ms')
local now, accessed, updated, deadline = now_ms(), stored('ctx', found[2]), stored('ctx', found[3]), stored('ctx', found[4])
if not found[1] or (set[1] or mode) ~= 'live' or deadline < now then return {'OK', '0'} end
if accessed >= updated and now - accessed < interval_ms then return {'OK', '0'} end
redis.call('LLEN', log)
redis.call('ZCARD', order)
local restored = stored('usage', redis.call('HGET', usage, state))

-- writes
redis.call('HSET', ctx, 'accessed_ms', fmt(now))
redis.call('HSET', usage, state, fmt(restored + 1))
if accessed < updated then transition(log, fmt(deadline), fmt(now), 'preserved', state) end
if (set[2] or policy) == 'evict_lru' then redis.call('ZADD', order, 'XX', fmt(now), id) end
return {'OK', '1'}
