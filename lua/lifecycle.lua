#!lua flags=no-writes
-- lifecycle: a context's transitions, hops and invariants, without its data.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        body       string  lukhas:{t}:body:<id>
--        segs       list    lukhas:{t}:segs:<id>
--        hops       list    lukhas:{t}:hops:<id>
--        log        list    lukhas:{t}:log:<id>
--        index      zset    lukhas:{t}:index
--        tombs      zset    lukhas:{t}:tombs
--        shard      hash    lukhas:{t}:shard
-- ARGV   id         uuid    the context
--        marker=    text    which incarnation of the server's data the caller knows; empty = not known
-- OK     now_ms body_bytes segments ctx_deadline_ms body_deadline_ms {field value ...} {transition ...} {hop ...}
-- FCALL  ctx
--- @include "includes/present"
--- @include "includes/now_ms"
local ctx, body, segs, hops, log, index, tombs, shard = unpack(KEYS)
local id, marker = unpack(ARGV)
local now = now_ms()
present({ctx = ctx, index = index, tombs = tombs, shard = shard}, id, now, marker)
return {fmt(now), redis.call('STRLEN', body), redis.call('LLEN', segs), redis.call('PEXPIRETIME', ctx), redis.call('PEXPIRETIME', body),
  redis.call('HGETALL', ctx), redis.call('LRANGE', log, 0, -1), redis.call('LRANGE', hops, 0, -1)}
