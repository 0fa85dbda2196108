#!lua flags=no-writes
-- restore: read a context whole: its metadata, and its stored bytes when they are small.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        body       string  lukhas:{t}:body:<id>
--        index      zset    lukhas:{t}:index
--        tombs      zset    lukhas:{t}:tombs
--        shard      hash    lukhas:{t}:shard
-- ARGV   id         uuid    the context
--        marker=    text    which incarnation of the server's data the caller knows; empty = not known
--        inline     int     answer bodies up to this many bytes; larger ones are fetched with GET
-- OK     version nonce seq session type owner created_ms updated_ms expires_ms ttl_ms accessed_ms hops pinned
--        raw_bytes stored_bytes level checksum digest now_ms body
--- @include "includes/present"
--- @include "includes/stored"
--- @include "includes/now_ms"
--- @include "includes/whole"
local ctx, body, index, tombs, shard = unpack(KEYS)
local id, marker, inline = unpack(ARGV)
inline = whole('inline', inline, 0, 1e9)
local keys = {ctx = ctx, index = index, tombs = tombs, shard = shard}
local now = now_ms()
local found = present(keys, id, now, marker, 'nonce', 'seq', 'session', 'type', 'owner', 'created_ms', 'updated_ms',
  'expires_ms', 'ttl_ms', 'accessed_ms', 'hops', 'pinned', 'raw_bytes', 'stored_bytes', 'level', 'checksum', 'digest')
found[19] = fmt(now)
if stored('ctx', found[15]) <= inline then
  found[20] = redis.call('GET', body)
else
  found[20] = redis.call('STRLEN', body) > 0 and '' or false
end
if not found[20] then refuse('ABSENT', 'reason=lost since=0') end
return found
