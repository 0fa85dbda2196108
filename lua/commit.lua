#!lua
-- commit: finish a delivery together with what its handler changed and emitted: all of it, or nothing. Without a
-- delivery: changes and the events that tell of them.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        later      stream  lukhas:{t}:bus:later
--        due        zset    lukhas:{t}:bus:due
--        wake       stream  lukhas:{t}:bus:wake
--        group_key  hash    lukhas:{t}:group:<group>
--        held_critical zset lukhas:{t}:group:<group>:held:critical
--        held_high  zset    lukhas:{t}:group:<group>:held:high
--        held_normal zset   lukhas:{t}:group:<group>:held:normal
--        held_low   zset    lukhas:{t}:group:<group>:held:low
--        parked     zset    lukhas:{t}:group:<group>:parked
--        busy       hash    lukhas:{t}:group:<group>:busy
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
--        operation... any   the keys of each operation, one after the other
-- ARGV   @tenant
--        group      name    the consumer group; empty = there is no delivery to finish
--        consumer   name    the worker
--        rank       int     1 = critical to 4 = low
--        stream_id  text    the delivery: its stream id,
--        deliveries int     and how often it was delivered
--        max_entries int    events a stream may hold
--        max_payload int    bytes a payload may have
--        trimmed    flag    1 = what is finished was trimmed just now
--        events     bytes   the events, msgpack: an array of arrays of text, in the order of `emission_words`
--        operation... text  of each: name, number of keys, number of arguments, and the arguments
-- OK     OK dry emitted (answer of each operation)...
--        STEP number answer an operation asks for something first; nothing was written
--        TRIM               a stream is full: trim what is finished, then repeat
--        FENCED             another worker has the event, or the group was lost; nothing was written
--        GONE               the event was finished before; nothing was written
--        a refusal of an operation has `op=<number>` among its facts
--- @include "includes/overlay"
--- @include "includes/distinct"
--- @include "includes/now_ms"
--- @include "includes/tenant"
--- @include "includes/delivery"
--- @include "includes/tally"
--- @include "includes/emission"
--- @include "includes/wake"
--- @operations "append drop extend handoff pin preserve"
local critical, high, normal, low, later, due, wake, group_key, held_critical, held_high, held_normal, held_low, parked,
  busy, flags, shard = unpack(KEYS)
local dry, mode, shards, marker, group, consumer, rank, stream_id, deliveries, max_entries, max_payload, trimmed,
  events = unpack(ARGV)
local keys = {streams = {critical, high, normal, low}, held = {held_critical, held_high, held_normal, held_low},
  parked = parked, busy = busy, critical = critical, high = high, normal = normal, low = low, later = later, due = due,
  wake = wake}
distinct({critical, high, normal, low, later, due, wake, group_key, held_critical, held_high, held_normal, held_low, parked,
  busy, flags, shard})
max_entries, max_payload = whole('max_entries', max_entries, 1, 1e9), whole('max_payload', max_payload, 1, 1e9)
rank, stream_id, deliveries = delivery_checked(rank, stream_id, deliveries)
local is_packed, packed = pcall(cmsgpack.unpack, events)
if not is_packed or type(packed) ~= 'table' or #packed > 16 then refuse('ARGUMENT', 'name=events') end
for _, one in ipairs(packed) do
  for i = 1, 11 do
    if type(one) ~= 'table' or type(one[i]) ~= 'string' then refuse('ARGUMENT', 'name=events') end
  end
end

local tenant = tenant_check(flags, shard, dry, mode, shards, marker, #ARGV == 13 and #packed == 0)
local now, tally = now_ms(), nil
if group ~= '' then
  local state = delivery_state(keys, group, consumer, rank, stream_id, deliveries)
  if state ~= 'MINE' then return {state} end
  tally = tally_check(group_key, 'done')
  delivery_check(keys)
end
if tenant.dry then overlay_live(flags, shard) end

local answer, at_key, at, number, rehearsed = {'OK', tenant.dry and '1' or '0', '0'}, 17, 14, 0, false
while ARGV[at] do
  local name, key_count, arg_count = ARGV[at], whole('operation', ARGV[at + 1], 1, 1e4), whole('operation', ARGV[at + 2] or '', 1, 1e4)
  local run = operations[name] or refuse('ARGUMENT', 'name=operation')
  number = number + 1
  if number > 16 or at + 2 + arg_count > #ARGV or at_key + key_count - 1 > #KEYS then refuse('ARGUMENT', 'name=operation') end
  local own_keys, own_args = {unpack(KEYS, at_key, at_key + key_count - 1)}, {unpack(ARGV, at + 3, at + 2 + arg_count)}
  local is_done, result = pcall(run, own_keys, own_args)
  if is_done and tenant.dry and result[1] == 'FOLD' then
    -- Nobody folds for a dry run: it goes on as if that were done (these are append's max_segs and max_raw).
    own_args[24], own_args[25] = '1000000', '10000000000'
    is_done, result = pcall(run, own_keys, own_args)
  end
  if is_done and tenant.dry and (result[1] == 'PURGE' or result[1] == 'AGAIN' or result[1] == 'LIVE') then
    -- Nobody makes room, or sends a large body, for it either: it answers as its own does, unseen by those that follow.
    own_args[5], rehearsed = '1', true
    is_done, result = pcall(run, own_keys, own_args)
  end
  -- What it evicted to begin with stays evicted, as it would without a commit; it must be the first, so that is all.
  if is_done and result[1] == 'AGAIN' and number == 1 then overlay_apply() end
  if not is_done then error({err = (type(result) == 'table' and result.err or tostring(result)) .. ' op=' .. fmt(number)}) end
  if result[1] ~= 'OK' then return {'STEP', fmt(number), result} end
  if tenant.dry then result[2] = '1' end
  answer[3 + number] = result
  at_key, at = at_key + key_count, at + 3 + arg_count
end
-- All of it was done before and answered from the record: so were its events.
if group == '' and number > 0 and not rehearsed and overlay_repeats() then packed = {} end

local planned = {}
for i, one in ipairs(packed) do
  planned[i] = emission_check(keys, {id = one[1], event = one[2], priority = one[3], payload = one[4], source = one[5],
    correlation = one[6], causation = one[7], ordering_key = one[8], trace = one[9], delay_ms = one[10], at_ms = one[11]},
    max_payload, now)
end
local over = emission_over(keys, planned, max_entries, tenant.dry)
if over then
  if trimmed == '0' then return {'TRIM'} end
  refuse('BACKLOG', 'priority=' .. over .. ' limit=' .. fmt(max_entries))
end
emission_sound(planned)
answer[3] = fmt(#planned)
if tenant.dry then return answer end

-- writes
overlay_apply()
for _, event in ipairs(planned) do emission_apply(keys, event, now) end
local heirs = group ~= '' and delivery_finish(keys, group, rank, stream_id, now)
if tally then
  tally_add(tally, 'done', 1)
  tally_apply(tally)
end
if heirs or #planned > 0 then wake_one(wake) end
return answer
