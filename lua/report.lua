#!lua
-- report: say in the events and the totals that a reader met damaged bytes; they are left as they are.
--
-- KEYS   usage      hash    lukhas:{t}:usage
--        events     stream  lukhas:{t}:events
--        flags      hash    lukhas:{t}:flags
-- ARGV   mode=live  word    the tenant's mode until it has one
--        window=1000 int    lifecycle events kept (about)
--        id         uuid    the context
-- OK     OK reported
-- EMITS  context.corrupt
--- @include "includes/distinct"
--- @include "includes/whole"
--- @include "includes/matching"
--- @include "includes/stored"
--- @include "includes/fmt"
--- @include "includes/emit"
local usage, events, flags = unpack(KEYS)
local mode, window, id = unpack(ARGV)
distinct(KEYS)
window = whole('window', window, 1, 1e7)
matching('id', id, '^[0-9a-f-]+$')
if (redis.call('HGET', flags, 'mode') or mode) ~= 'live' then return {'OK', '0'} end
local corrupt = stored('usage', redis.call('HGET', usage, 'corrupt'))

-- writes
emit(events, window, 'context.corrupt', id, '0')
redis.call('HSET', usage, 'corrupt', fmt(corrupt + 1))
return {'OK', '1'}
