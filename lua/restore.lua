#!lua flags=no-writes
-- restore: read a context, or only what has changed since the caller read it.
--
-- KEYS   ctx        hash    lukhas:{t}:ctx:<id>
--        body       string  lukhas:{t}:body:<id>
--        segs       list    lukhas:{t}:segs:<id>
--        index      zset    lukhas:{t}:index
--        tombs      zset    lukhas:{t}:tombs
--        shard      hash    lukhas:{t}:shard
-- ARGV   id         uuid    the context
--        marker=    text    which incarnation of the server's data the caller knows; empty = not known
--        inline     int     answer a body, or segments, up to this many bytes; more is fetched with GET, LRANGE
--        held=      text    "nonce seq chain" of the data the caller holds; empty = none
--        stamp=     text    "version expires_ms accessed_ms pinned lease segs" of the metadata it holds
-- OK     SAME now_ms                              nothing has changed
--        META now_ms {field value ...}            only metadata has changed
--        GREW now_ms {field value ...} segment ...   these were appended since
--        FULL now_ms {field value ...} body segment ...   body or segments are left out where they are too long
--- @include "includes/present"
--- @include "includes/stored"
--- @include "includes/now_ms"
--- @include "includes/whole"
local ctx, body, segs, index, tombs, shard = unpack(KEYS)
local id, marker, inline, held, stamp = unpack(ARGV)
inline = whole('inline', inline, 0, 1e9)
local now = now_ms()
local keys = {ctx = ctx, index = index, tombs = tombs, shard = shard}
local found, content
if held == '' then
  found = present(keys, id, now, marker)
else
  found = present(keys, id, now, marker, 'nonce', 'seq', 'chain', 'digest', 'expires_ms', 'accessed_ms', 'pinned', 'lease',
    'segs')
  for i = 1, 10 do found[i] = found[i] or '' end
  content = found[2] .. ' ' .. found[3] .. ' ' .. (found[4] ~= '' and found[4] or found[5])
  if held == content and stamp == table.concat({found[1], found[6], found[7], found[8], found[9], found[10]}, ' ') then
    return {'SAME', fmt(now)}
  end
end
local fields = redis.call('HGETALL', ctx)
if held ~= '' and held == content then return {'META', fmt(now), fields} end
local sizes = redis.call('HMGET', ctx, 'stored_bytes', 'segs', 'segs_bytes')
local count, bytes = stored('ctx', sizes[2]), stored('ctx', sizes[3])
local nonce, seq = string.match(held, '^(%x+) (%d+) ')
if nonce and nonce == found[2] then
  local missing = stored('ctx', found[3]) - seq
  if missing > 0 and missing <= count and bytes * missing <= inline * count then
    local answer = {'GREW', fmt(now), fields}
    for i, segment in ipairs(redis.call('LRANGE', segs, -missing, -1)) do answer[3 + i] = segment end
    return answer
  end
end
local answer = {'FULL', fmt(now), fields}
if stored('ctx', sizes[1]) <= inline then
  answer[4] = redis.call('GET', body)
else
  answer[4] = redis.call('STRLEN', body) > 0 and '' or false
end
if not answer[4] then refuse('ABSENT', 'reason=lost since=0') end
if count > 0 and bytes <= inline then
  for i, segment in ipairs(redis.call('LRANGE', segs, 0, -1)) do answer[4 + i] = segment end
end
return answer
