#!lua
-- claim: take events for a worker: what lapsed or is due again first, then new ones; critical before high before
-- normal before low, but for a bounded share that goes the other way round.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        later      stream  lukhas:{t}:bus:later
--        due        zset    lukhas:{t}:bus:due
--        dead       stream  lukhas:{t}:bus:dead
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
-- ARGV   @tenant
--        group      name    the consumer group
--        consumer   name    the worker
--        count      int     how many events it can take now
--        hold_ms    int     how long they are its own without a sign of life
--        max_deliveries int an event delivered more often is a dead letter
--        low_every  int     one of so many goes to the lower priorities first
--        recover    flag    1 = also what the worker has already, by the books: a reply was lost
--        max_dead   int     dead letters kept
--        pattern... text    Lua patterns of event names; what matches none is finished at once
-- OK     OK next_ms more (rank stream_id deliveries fields)...
--        DRY                the tenant is in dry run: peek instead
--        PAUSED             nothing is handed out now
--        NOGROUP            the group is not there: join, then repeat
--- @include "includes/distinct"
--- @include "includes/now_ms"
--- @include "includes/tenant"
--- @include "includes/delivery"
--- @include "includes/tally"
--- @include "includes/dead"
--- @include "includes/wake"
--- @include "includes/selection"
local critical, high, normal, low, later, due, dead, wake, group_key, held_critical, held_high, held_normal, held_low,
  parked, busy, flags, shard = unpack(KEYS)
local dry, mode, shards, marker, group, consumer, count, hold_ms, max_deliveries, low_every, recover, max_dead = unpack(ARGV)
local keys = {streams = {critical, high, normal, low}, held = {held_critical, held_high, held_normal, held_low},
  later = later, due = due, dead = dead, parked = parked, busy = busy}
distinct(KEYS)
matching('group', group, '^[%w_.-]+$')
matching('consumer', consumer, '^[%w_.@-]+$')
matching('recover', recover, '^[01]$')
count, hold_ms = whole('count', count, 0, 1000), whole('hold_ms', hold_ms, 1, 86400000)
max_deliveries, low_every = whole('max_deliveries', max_deliveries, 1, 1e6), whole('low_every', low_every, 2, 1e6)
max_dead = whole('max_dead', max_dead, 1, 1e9)
local patterns = {unpack(ARGV, 13)}
-- Only what cannot be malformed: letters, digits, dots, stars, and anything else behind a %.
for _, one in ipairs(patterns) do matching('pattern', string.gsub(one, '%%[^%w%c]', ''), '^%^[%w.*]*%$$') end

local tenant = tenant_check(flags, shard, dry, mode, shards, marker, true)
if tenant.dry then return {'DRY'} end
if tenant.mode == 'paused' then return {'PAUSED'} end
local now = now_ms()
local selection = selection_check(keys, group, now, count)
if not selection then return {'NOGROUP'} end
local tally = tally_check(group_key, 'delivered', 'taken_over', 'skipped', 'parked', 'dead', 'lost', 'turn')
delivery_check(keys)
redis.call('XLEN', dead)
redis.call('XLEN', wake)

-- writes
selection.group, selection.consumer, selection.tally, selection.now = group, consumer, tally, now
selection.until_ms, selection.max_deliveries, selection.max_dead = fmt(now + hold_ms), max_deliveries, max_dead
selection.patterns = patterns
local promoted = selection_promote(keys, selection)
if recover == '1' then selection_recover(keys, selection) end
local start = #selection.taken
local turn, share = tally.count.turn, 0
for slot = turn + 1, turn + count do
  if slot % low_every == 0 then share = share + 1 end
end
if share > 0 then
  local first = 4 - math.floor(turn / low_every) % 3
  for step = 0, 2 do selection_take(keys, selection, (first + 1 - step) % 3 + 2, start + share) end
end
for rank = 1, 4 do selection_take(keys, selection, rank, start + count) end
tally_add(tally, 'turn', #selection.taken - start)
tally_add(tally, 'delivered', #selection.taken - start)
-- Whoever has taken all it could may have left something: the next idle worker looks.
if #selection.taken - start == count or selection.more or promoted > #selection.taken then wake_one(wake) end
tally_apply(tally, 'seen_ms', fmt(now), unpack(selection.last))
return {'OK', fmt(selection_next(selection)), selection.more and '1' or '0', unpack(selection.taken)}
