--- @include "includes/stored"
--- @include "includes/transition"
-- What is stored under the id now, and replacing it. A context that is gone (also one whose deadline passed in
-- this very millisecond) leaves nothing to its successor: no segments, no hops, no log, no owner, no lease, no version.
-- `shape` stands for the fields that a first append adds: the body was written whole where it is missing.
local function incarnation_check(keys, now)
  local was = redis.call('HMGET', keys.ctx, 'version', 'session', 'nonce', 'seq', 'created_ms', 'accessed_ms',
    'updated_ms', 'expires_ms', 'pinned', 'shape', 'lease', 'ttl_ms')
  local hops, log = redis.call('LLEN', keys.hops), redis.call('LLEN', keys.log)
  local left = redis.call('STRLEN', keys.body) + hops + log > 0 or was[1]
  if not was[1] or stored('ctx', was[8]) < now then
    return {version = 0, seq = 0, created_ms = now, left = left or redis.call('LLEN', keys.segs) > 0}
  end
  return {
    live = true, version = stored('ctx', was[1]), session = was[2], nonce = was[3], seq = stored('ctx', was[4]),
    created_ms = stored('ctx', was[5]), pinned = was[9], hops = hops,
    grown = was[10], lease = was[11], deadline = stored('ctx', was[8]), ttl_ms = stored('ctx', was[12]),
    state = stored('ctx', was[6]) >= stored('ctx', was[7]) and 'restored' or 'preserved',
  }
end

-- fields: what HSET takes besides the fields set here.
local function incarnation_apply(keys, old, now, deadline, new_nonce, fields)
  if old.left and not old.live then redis.call('UNLINK', keys.ctx, keys.segs, keys.hops, keys.log) end
  if old.grown then
    redis.call('UNLINK', keys.segs)
    redis.call('HDEL', keys.ctx, 'shape', 'root', 'chain', 'segs', 'segs_bytes', 'segs_raw')
  end
  redis.call('HSET', keys.ctx, 'version', fmt(old.version + 1), 'seq', fmt(old.seq + 1), 'nonce', old.nonce or new_nonce,
    'created_ms', fmt(old.created_ms), 'updated_ms', fmt(now), 'expires_ms', deadline, unpack(fields))
  redis.call('PEXPIREAT', keys.ctx, deadline)
  if old.live then
    if old.hops > 0 then redis.call('PEXPIREAT', keys.hops, deadline) end
    transition(keys.log, deadline, fmt(now), old.state, 'preserved')
  end
end
