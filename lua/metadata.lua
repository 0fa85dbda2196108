#!lua flags=no-writes
-- metadata: what is known about a context, without its data.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        index      zset    lukhas:{t}:index
--        tombs      zset    lukhas:{t}:tombs
--        shard      hash    lukhas:{t}:shard
-- ARGV   id         uuid    the context
--        marker=    text    which incarnation of the server's data the caller knows; empty = not known
-- OK     now_ms field value ...
-- FCALL  ctx
--- @include "includes/present"
--- @include "includes/now_ms"
local ctx, index, tombs, shard = unpack(KEYS)
local id, marker = unpack(ARGV)
local now = now_ms()
present({ctx = ctx, index = index, tombs = tombs, shard = shard}, id, now, marker)
return {'now_ms', fmt(now), unpack(redis.call('HGETALL', ctx))}
