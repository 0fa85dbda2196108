--- @include "includes/refuse"
--- @include "includes/fmt"
-- Fields of a context that must be there; refuses with the reason for its absence when it is not.
--
-- ERR    LKABSENT           no such context: reason (never, expired, dropped, evicted, lost), since
--        LKRESET            the server lost its data since the caller last looked
local function absent(keys, id, now, marker)
  if marker ~= '' and redis.call('HGET', keys.shard, 'marker') ~= marker then refuse('RESET') end
  local reason, since = 'never', 0
  local deadline = redis.call('ZSCORE', keys.index, id)
  local graves = redis.call('ZMSCORE', keys.tombs, 'dropped:' .. id, 'expired:' .. id, 'evicted:' .. id, 'lost:' .. id)
  for i, name in ipairs({'dropped', 'expired', 'evicted', 'lost'}) do
    local at = tonumber(graves[i] or -1)
    if at > since then reason, since = name, at end
  end
  if deadline then
    since = tonumber(deadline)
    reason = since <= now and 'expired' or 'lost'
  end
  refuse('ABSENT', 'reason=' .. reason .. ' since=' .. fmt(since))
end

local function present(keys, id, now, marker, ...)
  local fields = redis.call('HMGET', keys.ctx, 'version', ...)
  if not fields[1] then absent(keys, id, now, marker) end
  return fields
end
