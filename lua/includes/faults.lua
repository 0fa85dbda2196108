--- @include "includes/account_split"
-- What is wrong with one context in the accounts: a list of words, empty when it is sound.
local function faults_of(keys, ctx, body, id, now)
  local deadline = tonumber(redis.call('ZSCORE', keys.index, id) or nil)
  local size, version = redis.call('HGET', keys.sizes, id), redis.call('HGET', ctx, 'version')
  local bytes, found = redis.call('STRLEN', body), {}
  if deadline and deadline < now then return found end
  local function note(wrong, word) if wrong then found[#found + 1] = word end end
  if not version or bytes == 0 then
    note(deadline or version or size, 'lost')
    return found, bytes
  end
  note(not deadline, 'unindexed')
  note(not size or account_split(size) ~= bytes, 'uncounted')
  -- MIGRATE sends how long a key has left, so a slot on the move shifts deadlines by milliseconds.
  local function off(key) return math.abs(redis.call('PEXPIRETIME', key) - deadline) > 1000 end
  note(deadline and (off(ctx) or off(body)), 'deadline')
  local ordered = redis.call('ZSCORE', keys.order, id)
  note(not ordered == not redis.call('HGET', ctx, 'pinned'), 'unordered')
  return found, bytes
end
