--- @include "includes/account_split"
--- @include "includes/fmt"
-- What is wrong with one context in the accounts: a list of words, empty when it is sound. Of these `segments` may be
-- damage to the data itself (appended segments are missing), which no repair can undo.
local function faults_of(keys, ctx, body, segs, id, now)
  local deadline = tonumber(redis.call('ZSCORE', keys.index, id) or nil)
  local size, had = redis.call('HGET', keys.sizes, id), redis.call('HMGET', ctx, 'version', 'segs', 'segs_bytes', 'pinned')
  local version, body_bytes, found = had[1], redis.call('STRLEN', body), {}
  local segs_bytes = #(had[3] or '') < 16 and string.match(had[3] or '0', '^%d+$')
  local bytes = body_bytes + tonumber(segs_bytes or 0)
  if deadline and deadline < now then return found end
  local function note(wrong, word) if wrong then found[#found + 1] = word end end
  if not version or body_bytes == 0 then
    note(deadline or version or size, 'lost')
    return found, bytes
  end
  local count, listed = had[2] or '0', redis.call('LLEN', segs)
  note(not segs_bytes or count ~= fmt(listed), 'segments')
  note(not deadline, 'unindexed')
  note(not size or account_split(size) ~= bytes, 'uncounted')
  -- MIGRATE sends how long a key has left, so a slot on the move shifts deadlines by milliseconds.
  local function off(key) return math.abs(redis.call('PEXPIRETIME', key) - deadline) > 1000 end
  note(deadline and (off(ctx) or off(body) or (count ~= '0' and listed > 0 and off(segs))), 'deadline')
  local ordered = redis.call('ZSCORE', keys.order, id)
  note(not ordered == not had[4], 'unordered')
  return found, bytes
end
