#!lua flags=no-writes
-- stats: one shard's use, totals, limits and mode, at one moment.
--
-- KEYS   index      zset    lukhas:{t}:index
--        order      zset    lukhas:{t}:order
--        usage      hash    lukhas:{t}:usage
--        tombs      zset    lukhas:{t}:tombs
--        events     stream  lukhas:{t}:events
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
-- OK     now_ms live expired ordered tombs events {total value ...} {flag value ...} {shard value ...}
-- FCALL  index
--- @include "includes/now_ms"
--- @include "includes/fmt"
local index, order, usage, tombs, events, flags, shard = unpack(KEYS)
local now = fmt(now_ms())
local all, expired = redis.call('ZCARD', index), redis.call('ZCOUNT', index, '-inf', '(' .. now)
return {now, all - expired, expired, redis.call('ZCARD', order), redis.call('ZCARD', tombs), redis.call('XLEN', events),
  redis.call('HGETALL', usage), redis.call('HGETALL', flags), redis.call('HGETALL', shard)}
