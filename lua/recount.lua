#!lua flags=allow-oom
-- recount: make the totals what the accounts of single contexts add up to; refuses above 20,000 contexts.
-- Totals that hold no number are taken away: they count from 0 again.
--
-- KEYS   sizes      hash    lukhas:{t}:sizes
--        usage      hash    lukhas:{t}:usage
--        flags      hash    lukhas:{t}:flags
-- ARGV   dry=0      flag    1 = answer the difference, change nothing
--        mode=live  word    the tenant's mode until it has one; dry_run changes nothing either
-- OK     bytes_off entries_off
-- ERR    LKLARGE            more contexts than one call may count
-- FCALL  sizes
--- @include "includes/account_split"
--- @include "includes/refuse"
--- @include "includes/fmt"
local sizes, usage_key, flags = unpack(KEYS)
local dry, mode = unpack(ARGV)
if (redis.call('HGET', flags, 'mode') or mode) == 'dry_run' then dry = '1' end
if redis.call('HLEN', sizes) > 20000 then refuse('LARGE') end
local count = {bytes = 0, entries = 0}
for _, size in ipairs(redis.call('HVALS', sizes)) do
  local bytes, type = account_split(size)
  local share = 'entries:' .. (type or 'unknown')
  count.bytes, count.entries, count[share] = count.bytes + bytes, count.entries + 1, (count[share] or 0) + 1
end
local had, words, gone = redis.call('HGETALL', usage_key), {}, {}
local was = {bytes = 0, entries = 0}
for i = 1, #had, 2 do
  local name, number = had[i], tonumber(had[i + 1])
  local ours = number and number % 1 == 0 and math.abs(number) <= 9e15
  was[name] = ours and number or 0
  if not count[name] and #gone < 5000 and (not ours or string.match(name, '^entries:')) then gone[#gone + 1] = name end
end
local answer = {fmt(was.bytes - count.bytes), fmt(was.entries - count.entries)}
if dry == '1' then return answer end
for name, value in pairs(count) do words[#words + 1], words[#words + 2] = name, fmt(value) end

-- writes
redis.call('HSET', usage_key, unpack(words))
if #gone > 0 then redis.call('HDEL', usage_key, unpack(gone)) end
return answer
