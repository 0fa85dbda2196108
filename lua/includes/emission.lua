--- @include "includes/refuse"
--- @include "includes/matching"
--- @include "includes/whole"
--- @include "includes/fmt"
--- @include "includes/backlog"
-- Events on their way to the bus: a plan of which stream each goes to, and carrying it out.
-- `keys` has the streams by priority, and `later`, `due` and `wake`.
--
-- ERR    LKARGUMENT         an argument is not what the header says: name
--        LKPAYLOAD          a payload is over the limit: bytes, limit
--        LKBACKLOG          a stream of the bus is full of unhandled events: priority, limit
local function emission_check(keys, event, max_payload, now)
  local known = {critical = true, high = true, normal = true, low = true}
  local stream = known[event.priority] and keys[event.priority] or refuse('ARGUMENT', 'name=priority')
  matching('id', event.id, '^[0-9a-f-]+$')
  matching('event', event.event, '^[%w_.:/-]+$')
  if #event.payload > max_payload then refuse('PAYLOAD', 'bytes=' .. fmt(#event.payload) .. ' limit=' .. fmt(max_payload)) end
  event.due_ms = math.max(now + whole('delay_ms', event.delay_ms, 0, 31536000000), whole('at_ms', event.at_ms, 0, 1e15))
  event.stream = event.due_ms > now and keys.later or stream
  redis.call('ZCARD', keys.due)
  redis.call('XLEN', keys.wake)
  return event
end

-- The priority whose stream has no room for these events, or nil. A dry run trims nothing, so what could be counts as gone.
local function emission_over(keys, events, max_entries, dry)
  local after = {}
  for _, event in ipairs(events) do
    local stream = event.stream
    after[stream] = (after[stream] or redis.call('XLEN', stream)) + 1
    local excess = after[stream] - max_entries
    local spare = excess > 0 and dry and stream ~= keys.later and backlog_finished(stream, excess) or 0
    if excess > spare then return event.priority end
  end
end

-- Whether XADD may refuse: only a stream whose last id is the largest possible does, and only when it is not the
-- first of all writes that matters.
local function emission_sound(events)
  for _, event in ipairs(events) do
    local info = redis.pcall('XINFO', 'STREAM', event.stream)
    for i = 1, info.err and 0 or #info, 2 do
      if info[i] == 'last-generated-id' and string.match(info[i + 1], '^18446744073709551615%-') then
        refuse('CORRUPT', 'key=bus')
      end
    end
  end
end

-- The order of the fields is always the same, so that Redis stores their names once for many entries.
local function emission_words(event, now)
  return {'id', event.id, 'event', event.event, 'source', event.source, 'correlation', event.correlation,
    'causation', event.causation, 'key', event.ordering_key, 'trace', event.trace, 'at', fmt(now),
    'only', event.only or '', 'payload', event.payload}
end

local function emission_apply(keys, event, now)
  local words = emission_words(event, now)
  if event.stream ~= keys.later then return redis.call('XADD', event.stream, '*', unpack(words)) end
  local waiting = redis.call('XADD', event.stream, '*', 'priority', event.priority, unpack(words))
  -- Members with one score are in the order of their letters: -10 must not come before -9.
  local ms, seq = string.match(waiting, '^(%d+)%-(%d+)$')
  redis.call('ZADD', keys.due, fmt(event.due_ms), ms .. '-' .. string.rep('0', 20 - #seq) .. seq)
  return waiting
end
