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
local from = math.max(after_ms, now_ms())
local start = redis.call('ZCOUNT', members, '-inf', '(' .. fmt(from))
-- By its place of then, not its rank of now: `after` may be gone or have moved, and others share its deadline.
if after ~= '' and after_ms == from then
  local ends = redis.call('ZCOUNT', members, '-inf', fmt(from))
  while start < ends do
    local middle = math.floor((start + ends) / 2)
    if redis.call('ZRANGE', members, middle, middle)[1] <= after then start = middle + 1 else ends = middle end
  end
end
return redis.call('ZRANGE', members, start, start + count - 1, 'WITHSCORES')
