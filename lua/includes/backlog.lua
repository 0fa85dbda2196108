--- @include "includes/fmt"
-- What a group has not finished of a stream: what it has in hand, and what it was not given yet. nil: no such group.
local function backlog_groups(stream)
  local found, groups = redis.pcall('XINFO', 'GROUPS', stream), {}
  for i = 1, found.err and 0 or #found do
    local one = {}
    for j = 1, #found[i], 2 do one[found[i][j]] = found[i][j + 1] end
    -- The server does not know the lag after entries were deleted from the middle: unknown counts as one.
    groups[i] = {name = one.name, pending = one.pending, last = one['last-delivered-id'], lag = tonumber(one.lag or 1) or 1}
  end
  return groups
end

local function backlog_of(stream, group)
  for _, one in ipairs(backlog_groups(stream)) do
    if one.name == group then return one end
  end
end

-- Whether a known group does not read the stream: it was lost, and will go on where it was.
local function backlog_lacks(stream, known)
  local there = {}
  for _, one in ipairs(backlog_groups(stream)) do there[one.name] = true end
  for _, name in ipairs(known) do
    if not there[name] then return true end
  end
  return false
end

-- The id below which every group has finished everything, and its time; nil where no group reads the stream.
local function backlog_floor(stream)
  local floor, low_ms, low_seq
  for _, one in ipairs(backlog_groups(stream)) do
    local id = one.last
    if one.pending > 0 then id = redis.call('XPENDING', stream, one.name)[2] or id end
    local ms_text, seq_text = string.match(id, '^(%d+)%-(%d+)$')
    local ms, seq = tonumber(ms_text), tonumber(seq_text)
    -- With nothing in hand the last one that was given is finished, too.
    if one.pending == 0 and seq < 1e15 then
      seq = seq + 1
      id = ms_text .. '-' .. fmt(seq)
    end
    if not low_ms or ms < low_ms or (ms == low_ms and seq < low_seq) then floor, low_ms, low_seq = id, ms, seq end
  end
  return floor, low_ms
end

-- How many entries every group has finished, up to `most`.
local function backlog_finished(stream, most)
  local floor = backlog_floor(stream)
  return #redis.call('XRANGE', stream, '-', floor and '(' .. floor or '+', 'COUNT', most)
end
