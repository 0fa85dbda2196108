-- Append one lifecycle transition; the creation itself is told by created_ms, so 15 here make 16.
local function transition(log, deadline, now, from, to)
  redis.call('RPUSH', log, now .. ' ' .. from .. ' ' .. to)
  redis.call('LTRIM', log, -15, -1)
  redis.call('PEXPIREAT', log, deadline)
end
