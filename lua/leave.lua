#!lua
-- leave: take a worker off the books of its group, where it has nothing pending; what it has stays for others to take.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        wake       stream  lukhas:{t}:bus:wake
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- ARGV   @tenant
--        group      name    the consumer group
--        consumer   name    the worker
--        waking     name    the group of workers that wait together
-- OK     OK dry kept     kept: how many streams still have something pending for it
--- @include "includes/distinct"
--- @include "includes/tenant"
--- @include "includes/consumers"
local critical, high, normal, low, wake, flags, shard = unpack(KEYS)
local dry, mode, shards, marker, group, consumer, waking = unpack(ARGV)
distinct(KEYS)
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
for _, stream in ipairs({critical, high, normal, low, wake}) do redis.call('XLEN', stream) end
if tenant.dry then return {'OK', '1', '0'} end

-- writes
local kept = 0
for _, stream in ipairs({critical, high, normal, low}) do
  if not consumer_remove(stream, group, consumer) then kept = kept + 1 end
end
consumer_remove(wake, waking, consumer)
return {'OK', '0', fmt(kept)}
