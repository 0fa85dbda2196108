-- Remove a consumer that has nothing pending: with it, XGROUP DELCONSUMER would forget what it has, for everybody.
-- Answers whether it is gone.
local function consumer_remove(stream, group, consumer)
  local pending = redis.pcall('XPENDING', stream, group, '-', '+', 1, consumer)
  if pending.err then return true end
  if #pending > 0 then return false end
  redis.pcall('XGROUP', 'DELCONSUMER', stream, group, consumer)
  return true
end

-- Remove those that have nothing pending and were not heard of for a while; at most 100 a call, however many others there
-- are before them.
local function consumers_reap(stream, group, idle_ms)
  local found = redis.pcall('XINFO', 'CONSUMERS', stream, group)
  local removed = 0
  for i = 1, found.err and 0 or #found do
    local one = {}
    for j = 1, #found[i], 2 do one[found[i][j]] = found[i][j + 1] end
    if removed < 100 and one.idle >= idle_ms and one.pending == 0 and one.name ~= '@waiting' and consumer_remove(stream, group, one.name) then
      removed = removed + 1
    end
  end
  return removed
end
