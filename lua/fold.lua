#!lua
-- fold: replace a context's body and segments by one body that says the same; version, sequence and chain stay.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        body       string  lukhas:{t}:body:<id>
--        segs       list    lukhas:{t}:segs:<id>
--        index      zset    lukhas:{t}:index
--        sizes      hash    lukhas:{t}:sizes
--        usage      hash    lukhas:{t}:usage
--        tombs      zset    lukhas:{t}:tombs
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
--        stage      string  lukhas:{t}:stage:<token>
-- ARGV   @tenant
--        id         uuid    the context
--        held       text    "nonce seq chain" of the data that was folded
--        raw_bytes  int     length of the serialized data
--        bytes      int     length of the stored bytes
--        level      int     compression level
--        checksum   hex     SHA-256 of the serialized data
--        digest     hex     digest of the stored bytes, bound to the id
--        staged     int     0 = payload holds the bytes; 1 = they wait in `stage`
--        payload    bytes   the stored bytes, or (staged 1) the header of their envelope
-- OK     OK dry folded      folded 0 = somebody wrote meanwhile, or the new body is larger: nothing was changed
--- @include "includes/distinct"
--- @include "includes/matching"
--- @include "includes/whole"
--- @include "includes/now_ms"
--- @include "includes/tenant"
--- @include "includes/present"
--- @include "includes/grown"
--- @include "includes/usage"
--- @include "includes/account_split"
--- @include "includes/stage"
local ctx, body, segs, index, sizes, usage_key, tombs, flags, shard, stage = unpack(KEYS)
local dry, mode, shards, marker, id, held, raw_bytes, bytes, level, checksum, digest, staged, payload = unpack(ARGV)
distinct(KEYS)
matching('staged', staged, '^[01]$')
raw_bytes, bytes, level = whole('raw_bytes', raw_bytes, 0, 1e10), whole('bytes', bytes, 1, 1e10), whole('level', level, 0, 99)
if staged == '0' and #payload ~= bytes then refuse('ARGUMENT', 'name=bytes') end

local tenant = tenant_check(flags, shard, dry, mode, shards, marker, false)
local now = now_ms()
local found = present({ctx = ctx, index = index, tombs = tombs, shard = shard}, id, now, marker, 'nonce', 'seq', 'type',
  'expires_ms', 'stored_bytes', 'digest', 'shape', 'chain', 'segs', 'segs_bytes', 'segs_raw')
local grown = grown_of(segs, found[7], found[3], found[8], found[9], found[10], found[11], found[12])
local deadline = stored('ctx', found[5])
local is_same = held == (found[2] or '') .. ' ' .. (found[3] or '') .. ' ' .. grown.chain
redis.call('STRLEN', body)
local size, usage = redis.call('HGET', sizes, id), usage_check(usage_key, 'folded')
local was, type = account_split(size)
if tenant.dry or not is_same or not type or grown.count == 0 or bytes > was or deadline <= now then
  return {'OK', tenant.dry and '1' or '0', '0'}
end
if staged == '1' then stage_check(stage, bytes, payload) end
usage_add(usage, 'bytes', bytes - was)
usage_add(usage, 'folded', 1)

-- writes
if staged == '1' then
  redis.call('RENAME', stage, body)
  redis.call('PEXPIREAT', body, fmt(deadline))
else
  redis.call('SET', body, payload, 'PXAT', fmt(deadline))
end
redis.call('UNLINK', segs)
redis.call('HSET', ctx, 'raw_bytes', fmt(raw_bytes), 'stored_bytes', fmt(bytes), 'level', fmt(level), 'checksum', checksum,
  'digest', digest, 'root', grown.chain, 'segs', '0', 'segs_bytes', '0', 'segs_raw', '0')
redis.call('HSET', sizes, id, fmt(bytes) .. ' ' .. type)
usage_apply(usage)
return {'OK', '0', '1'}
