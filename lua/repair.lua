#!lua flags=allow-oom
-- repair: put the accounts of some contexts right again; what is lost is buried with an event.
--
-- KEYS   index      zset    lukhas:{t}:index
--        order      zset    lukhas:{t}:order
--        sizes      hash    lukhas:{t}:sizes
--        usage      hash    lukhas:{t}:usage
--        tombs      zset    lukhas:{t}:tombs
--        events     stream  lukhas:{t}:events
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
--        part...    any     ctx, body and segs of each context
-- ARGV   @tenant
--        @keeping
--        id...      uuid    the contexts, 1 to 100
-- OK     OK dry id fault id fault ...
-- EMITS  context.lose
--- @include "includes/distinct"
--- @include "includes/now_ms"
--- @include "includes/tenant"
--- @include "includes/keeping"
--- @include "includes/purge"
--- @include "includes/faults"
local index, order, sizes, usage_key, tombs, events, flags, shard = unpack(KEYS)
local dry, mode, shards, marker, window, grace_ms, max_tombs = unpack(ARGV)
local keys = {index = index, order = order, sizes = sizes, events = events}
distinct(KEYS)
if #ARGV > 107 or #KEYS ~= 8 + 3 * (#ARGV - 7) then refuse('ARGUMENT', 'name=id') end
local keep = keeping_of(window, grace_ms, max_tombs)
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
local now = now_ms()
redis.call('ZCARD', order)
local usage = usage_check(usage_key, 'lost')
local purge = purge_plan(usage, bury_check(tombs, now, keep.grace_ms, keep.max_tombs))
local answer, sound, lost = {'OK', tenant.dry and '1' or '0'}, {}, {}
for i = 8, #ARGV do
  local id, ctx, body, segs = ARGV[i], KEYS[3 * i - 15], KEYS[3 * i - 14], KEYS[3 * i - 13]
  local faults, bytes = faults_of(keys, ctx, body, segs, id, now)
  for _, fault in ipairs(faults) do answer[#answer + 1], answer[#answer + 2] = id, fault end
  if faults[1] == 'lost' then
    purge_add(purge, id, redis.call('HGET', sizes, id), 'lost', now)
    lost[#lost + 1] = {ctx, body, segs}
  elseif #faults > 0 then
    local had = redis.call('HMGET', ctx, 'expires_ms', 'type', 'pinned', 'updated_ms', 'segs')
    local size, deadline = redis.call('HGET', sizes, id), stored('ctx', had[1])
    if deadline == 0 then deadline = math.max(tonumber(redis.call('ZSCORE', index, id) or 0), redis.call('PEXPIRETIME', ctx), now + 60000) end
    if size then account_remove(usage, size) end
    account_add(usage, bytes, had[2] or 'conversation')
    sound[#sound + 1] = {id = id, ctx = ctx, body = body, segs = segs, stray = (had[5] or '0') == '0', deadline = fmt(deadline), pinned = had[3],
      updated = fmt(stored('ctx', had[4])), size = fmt(bytes) .. ' ' .. (had[2] or 'conversation')}
  end
end
if tenant.dry then return answer end

-- writes
purge_emit(purge, keys, keep.window)
purge_apply(purge, keys)
for _, parts in ipairs(lost) do redis.call('UNLINK', unpack(parts)) end
for _, one in ipairs(sound) do
  redis.call('ZADD', index, one.deadline, one.id)
  if one.pinned then redis.call('ZREM', order, one.id) else redis.call('ZADD', order, 'NX', one.updated, one.id) end
  redis.call('HSET', sizes, one.id, one.size)
  redis.call('PEXPIREAT', one.ctx, one.deadline)
  redis.call('PEXPIREAT', one.body, one.deadline)
  if one.stray then redis.call('UNLINK', one.segs) else redis.call('PEXPIREAT', one.segs, one.deadline) end
end
if #answer > 2 then usage_apply(usage) end
bury_apply(purge.graves)
return answer
