#!lua flags=allow-oom
-- discard: throw dead letters away.
--
-- KEYS   dead       stream  lukhas:{t}:bus:dead
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- ARGV   @tenant
--        letter...  text    ids of dead letters, at most 100
-- OK     OK dry discarded
-- FCALL  dead
--- @include "includes/distinct"
--- @include "includes/matching"
--- @include "includes/tenant"
--- @include "includes/taken"
local dead, flags, shard = unpack(KEYS)
local dry, mode, shards, marker = unpack(ARGV)
local letters = {unpack(ARGV, 5)}
distinct(KEYS)
if #ARGV > 104 or #letters == 0 then refuse('ARGUMENT', 'name=letter') end
for _, letter in ipairs(letters) do matching('letter', letter, '^%d+%-%d+$') end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local there, taken = 0, taken_check(shard)
for _, letter in ipairs(letters) do there = there + #redis.call('XRANGE', dead, letter, letter) end
if tenant.dry or there == 0 then return {'OK', tenant.dry and '1' or '0', fmt(there)} end

-- writes
local gone = redis.call('XDEL', dead, unpack(letters))
taken_apply(shard, taken, gone)
return {'OK', '0', fmt(gone)}
