#!lua flags=allow-oom
-- recount: make the totals what the accounts of single contexts add up to; refuses above 20,000 contexts.
--
-- KEYS   sizes      hash    lukhas:{t}:sizes
--        usage      hash    lukhas:{t}:usage
-- ARGV   dry=0      flag    1 = answer the difference, change nothing
-- OK     bytes_off entries_off
-- ERR    LKLARGE            more contexts than one call may count
-- FCALL  sizes
--- @include "includes/account"
local sizes, usage_key = unpack(KEYS)
local dry = ARGV[1]
if redis.call('HLEN', sizes) > 20000 then refuse('LARGE') end
local count = {bytes = 0, entries = 0}
for _, size in ipairs(redis.call('HVALS', sizes)) do
  local bytes, type = account_split(size)
  local share = 'entries:' .. (type or 'unknown')
  count.bytes, count.entries, count[share] = count.bytes + bytes, count.entries + 1, (count[share] or 0) + 1
end
local had = redis.call('HMGET', usage_key, 'bytes', 'entries')
local answer = {fmt(stored('usage', had[1]) - count.bytes), fmt(stored('usage', had[2]) - count.entries)}
if dry == '1' then return answer end
local words, shares = {}, {}
for _, name in ipairs(redis.call('HKEYS', usage_key)) do
  if string.match(name, '^entries:') and not count[name] then shares[#shares + 1] = name end
end
for name, value in pairs(count) do words[#words + 1], words[#words + 2] = name, fmt(value) end

-- writes
redis.call('HSET', usage_key, unpack(words))
if #shares > 0 then redis.call('HDEL', usage_key, unpack(shares)) end
return answer
