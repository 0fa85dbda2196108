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

-- The id below which every group has finished everything, as ms and sequence; nil where no group reads the stream.
local function backlog_floor(stream)
  local low_ms, low_seq
  for _, one in ipairs(backlog_groups(stream)) do
    local id = one.last
    if one.pending > 0 then id = redis.call('XPENDING', stream, one.name)[2] or id end
    local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
    ms, seq = tonumber(ms), tonumber(seq)
    if not low_ms or ms < low_ms or (ms == low_ms and seq < low_seq) then low_ms, low_seq = ms, seq end
  end
  return low_ms, low_seq
end
