--- @include "includes/delivery"
--- @include "includes/tally"
--- @include "includes/dead"
-- Which events a claim takes. `ready` holds, for each priority, the held events by the time they are free again:
-- lapsed, due for a retry, or released by their ordering key. Finding those costs no look at the pending list.
local function selection_check(keys, group, now, count)
  local plan = {taken = {}, ready = {}, at = {}, last = {}, had = {}, budget = 64}
  for rank = 1, 4 do
    local state = redis.pcall('XPENDING', keys.streams[rank], group)
    if state.err then
      if string.match(state.err, '^NOGROUP') then return nil end
      error(state)
    end
    plan.ready[rank], plan.at[rank] = redis.call('ZRANGE', keys.held[rank], 0, count, 'WITHSCORES'), 1
  end
  plan.due = redis.call('ZRANGE', keys.due, 0, 15, 'WITHSCORES')
  redis.call('XLEN', keys.later)
  return plan
end

-- Move delayed events whose time has come into their streams.
local function selection_promote(keys, plan)
  local moved = 0
  for i = 1, #plan.due, 2 do
    if tonumber(plan.due[i + 1]) > plan.now then break end
    -- What somebody else put there (no id, no event) is taken away; an event whose stream takes none stays.
    local found = redis.pcall('XRANGE', keys.later, plan.due[i], plan.due[i])
    local fields, made = found[1] and found[1][2], nil
    if fields and fields[1] == 'priority' and fields[3] and #fields < 100 then
      local rank = ({critical = 1, high = 2, normal = 3, low = 4})[fields[2]] or 3
      made = redis.pcall('XADD', keys.streams[rank], '*', unpack(fields, 3))
    end
    if not (made and made.err) then
      if fields then redis.call('XDEL', keys.later, plan.due[i]) end
      if not fields and not found.err then tally_add(plan.tally, 'lost', 1) end
      redis.call('ZREM', keys.due, plan.due[i])
      moved = moved + (made and 1 or 0)
    end
  end
  return moved
end

local function selection_give(keys, plan, rank, sid, deliveries, fields)
  plan.had[rank .. '/' .. sid] = true
  plan.taken[#plan.taken + 1] = {fmt(rank), sid, fmt(deliveries), fields}
  redis.call('ZADD', keys.held[rank], plan.until_ms, sid)
end

local function selection_lose(keys, plan, rank, sid)
  tally_add(plan.tally, 'lost', 1)
  delivery_finish(keys, plan.group, rank, sid, plan.now)
end

-- What the worker has by the books: it sorts out which of it it never saw.
local function selection_recover(keys, plan)
  for rank = 1, 4 do
    for _, row in ipairs(redis.call('XPENDING', keys.streams[rank], plan.group, '-', '+', 100, plan.consumer)) do
      local entry = redis.call('XRANGE', keys.streams[rank], row[1], row[1])[1]
      if entry then
        selection_give(keys, plan, rank, row[1], row[4], entry[2])
      else
        selection_lose(keys, plan, rank, row[1])
      end
    end
  end
end

local function selection_bury(keys, plan, rank, sid, deliveries, last)
  local entry = redis.call('XRANGE', keys.streams[rank], sid, sid)[1]
  if not entry then return selection_lose(keys, plan, rank, sid) end
  local is_dead = pcall(function()
    dead_apply(keys.dead, plan.max_dead, plan.group, rank, sid, entry[2], {reason = 'deliveries', handler = '',
      error = 'its last worker gave no sign of life', deliveries = deliveries, consumer = last, now = plan.now})
  end)
  -- Where the stream of dead letters takes none it stays what it is.
  if not is_dead then return end
  tally_add(plan.tally, 'dead', 1)
  delivery_finish(keys, plan.group, rank, sid, plan.now)
end

-- Take one event that was held: the pending list follows, also where its group was lost and is there again.
local function selection_again(keys, plan, rank, sid)
  local rows = string.match(sid, '^%d+%-%d+$') and redis.pcall('XPENDING', keys.streams[rank], plan.group, sid, sid, 1)
  -- No id: somebody else put it there.
  if not rows or rows.err then return redis.call('ZREM', keys.held[rank], sid) end
  local row = rows[1] or {sid, '@waiting', 0, 0}
  local deliveries = row[4] + 1
  if deliveries > plan.max_deliveries then return selection_bury(keys, plan, rank, sid, row[4], row[2]) end
  local entry = redis.call('XCLAIM', keys.streams[rank], plan.group, plan.consumer, 0, sid, 'RETRYCOUNT', deliveries, 'FORCE')[1]
  if not entry then return selection_lose(keys, plan, rank, sid) end
  if row[2] ~= '@waiting' then tally_add(plan.tally, 'taken_over', 1) end
  selection_give(keys, plan, rank, sid, deliveries, entry[2])
end

local function selection_wanted(plan, name)
  for _, pattern in ipairs(plan.patterns) do
    if string.match(name, pattern) then return true end
  end
  return false
end

-- Take one event that nobody of the group had yet; or finish it, or let it wait for its ordering key.
local function selection_new(keys, plan, rank, sid, fields)
  local event = {}
  for i = 1, #fields, 2 do event[fields[i]] = fields[i + 1] end
  local only, key = event.only or '', event.key or ''
  if (only ~= '' and only ~= plan.group) or not selection_wanted(plan, event.event or '') then
    tally_add(plan.tally, 'skipped', 1)
    redis.call('XACK', keys.streams[rank], plan.group, sid)
  elseif key == '' or lane_enter(keys, lane_of(key, rank), rank, sid) then
    selection_give(keys, plan, rank, sid, 1, fields)
  else
    tally_add(plan.tally, 'parked', 1)
    redis.call('XCLAIM', keys.streams[rank], plan.group, '@waiting', 0, sid, 'RETRYCOUNT', 0, 'JUSTID')
  end
end

-- Take from one priority until `most` are taken in all.
local function selection_take(keys, plan, rank, most)
  local ready = plan.ready[rank]
  while #plan.taken < most and ready[plan.at[rank]] and tonumber(ready[plan.at[rank] + 1]) <= plan.now do
    local sid = ready[plan.at[rank]]
    plan.at[rank] = plan.at[rank] + 2
    if not plan.had[rank .. '/' .. sid] then selection_again(keys, plan, rank, sid) end
  end
  while #plan.taken < most do
    if plan.budget <= 0 then plan.more = true return end
    local asked = math.min(most - #plan.taken, plan.budget)
    local found = redis.call('XREADGROUP', 'GROUP', plan.group, plan.consumer, 'COUNT', asked, 'STREAMS', keys.streams[rank], '>')
    local entries = found and found[1][2] or {}
    for _, entry in ipairs(entries) do selection_new(keys, plan, rank, entry[1], entry[2]) end
    if #entries > 0 then
      plan.last[#plan.last + 1] = 'last:' .. rank
      plan.last[#plan.last + 1] = entries[#entries][1]
    end
    -- What was finished or has to wait costs as well, so that no call takes long.
    plan.budget = plan.budget - #entries
    if #entries < asked then return end
  end
end

-- How long until something held or delayed is ready, in milliseconds; -1 = nothing is.
local function selection_next(plan)
  local soonest
  for rank = 1, 4 do
    local at = tonumber(plan.ready[rank][plan.at[rank] + 1])
    if at and (not soonest or at < soonest) then soonest = at end
  end
  local later = tonumber(plan.due[2])
  if later and later <= plan.now then later = tonumber(plan.due[#plan.due]) end
  if later and (not soonest or later < soonest) then soonest = later end
  return soonest and math.max(0, soonest - plan.now) or -1
end
