#!lua
-- open: give a tenant's shard its record, once; answers the one it has.
--
-- KEYS   flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- ARGV   shards     int     how many shards the tenant is to have
--        marker     hex     names this incarnation of the server's data
--        mode       word    the tenant's first mode
--        flag...    text    name and value of each flag set before the shard was there
-- OK     shards marker created
--- @include "includes/distinct"
--- @include "includes/whole"
--- @include "includes/matching"
--- @include "includes/now_ms"
--- @include "includes/fmt"
local flags, shard = unpack(KEYS)
local shards, marker, mode = unpack(ARGV)
distinct(KEYS)
shards = fmt(whole('shards', shards, 1, 1024))
matching('marker', marker, '^%x+$')
matching('mode', mode, '^[a-z_]+$')
if #ARGV % 2 == 0 then refuse('ARGUMENT', 'name=flag') end
redis.call('HLEN', flags)
local known = redis.call('HMGET', shard, 'shards', 'marker')
if known[1] and known[2] then return {known[1], known[2], '0'} end
local now = fmt(now_ms())

-- writes
redis.call('HSET', shard, 'shards', shards, 'marker', marker, 'format', '1', 'created_ms', now)
for i = 4, #ARGV, 2 do redis.call('HSETNX', flags, ARGV[i], ARGV[i + 1]) end
if mode ~= 'live' then redis.call('HSETNX', flags, 'mode', mode) end
return {shards, marker, '1'}
