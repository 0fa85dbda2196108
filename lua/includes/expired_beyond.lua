--- @include "includes/account"
-- A dry run may not purge: it subtracts what the expired contexts beyond the first `skip` still hold.
local function expired_beyond(keys, usage, now, skip)
  local due = redis.call('ZRANGEBYSCORE', keys.index, '-inf', '(' .. now, 'LIMIT', skip, 2000)
  while #due > 0 do
    for _, size in ipairs(redis.call('HMGET', keys.sizes, unpack(due))) do
      if size then account_remove(usage, size) end
    end
    skip = skip + #due
    due = redis.call('ZRANGEBYSCORE', keys.index, '-inf', '(' .. now, 'LIMIT', skip, 2000)
  end
end
