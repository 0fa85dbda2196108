#!lua flags=allow-oom
-- retire: end a consumer group, so that it no longer keeps events from being trimmed.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        groups     hash    lukhas:{t}:bus:groups
--        group_key  hash    lukhas:{t}:group:<group>
--        held_critical zset lukhas:{t}:group:<group>:held:critical
--        held_high  zset    lukhas:{t}:group:<group>:held:high
--        held_normal zset   lukhas:{t}:group:<group>:held:normal
--        held_low   zset    lukhas:{t}:group:<group>:held:low
--        parked     zset    lukhas:{t}:group:<group>:parked
--        busy       hash    lukhas:{t}:group:<group>:busy
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- ARGV   @tenant
--        group      name    the consumer group
--        force=0    flag    1 = also with events it has not finished, which are then lost to it
-- OK     OK dry existed unfinished
-- ERR    LKPENDING          it has not finished everything: unfinished
-- FCALL  groups
--- @include "includes/distinct"
--- @include "includes/matching"
--- @include "includes/tenant"
--- @include "includes/backlog"
local critical, high, normal, low, groups, group_key, held_critical, held_high, held_normal, held_low, parked, busy, flags,
  shard = unpack(KEYS)
local dry, mode, shards, marker, group, force = unpack(ARGV)
distinct(KEYS)
matching('group', group, '^[%w_.-]+$')
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local existed = redis.call('HEXISTS', groups, group) + redis.call('EXISTS', group_key)
local unfinished = 0
for _, stream in ipairs({critical, high, normal, low}) do
  redis.call('XLEN', stream)
  local one = backlog_of(stream, group)
  if one then
    existed = existed + 1
    unfinished = unfinished + one.pending + one.lag
  end
end
if unfinished > 0 and force ~= '1' then refuse('PENDING', 'unfinished=' .. fmt(unfinished)) end
local answer = {'OK', tenant.dry and '1' or '0', existed > 0 and '1' or '0', fmt(unfinished)}
if tenant.dry then return answer end

-- writes
for _, stream in ipairs({critical, high, normal, low}) do redis.pcall('XGROUP', 'DESTROY', stream, group) end
redis.call('UNLINK', group_key, held_critical, held_high, held_normal, held_low, parked, busy)
redis.call('HDEL', groups, group)
return answer
