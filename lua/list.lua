#!lua flags=no-writes
-- list: the next page of live contexts, soonest deadline first.
--
-- KEYS   members    zset    lukhas:{t}:index
-- ARGV   after=     uuid    the last context of the page before; empty = from the start
--        after_ms=0 int     its deadline then
--        count=100  int     contexts a page, 1 to 1000
-- OK     id deadline_ms ...
-- FCALL  members
--- @include "includes/whole"
--- @include "includes/now_ms"
--- @include "includes/fmt"
local members = unpack(KEYS)
local after, after_ms, count = unpack(ARGV)
after_ms, count = whole('after_ms', after_ms, 0, 1e15), whole('count', count, 1, 1000)
local rank = after ~= '' and redis.call('ZRANK', members, after)
local start = rank and rank + 1 or redis.call('ZCOUNT', members, '-inf', '(' .. fmt(math.max(after_ms, now_ms())))
return redis.call('ZRANGE', members, start, start + count - 1, 'WITHSCORES')
