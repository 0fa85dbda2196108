#!lua flags=no-writes
-- check: say what is wrong with the accounts of some contexts; changes nothing.
--
-- KEYS   index      zset    lukhas:{t}:index
--        order      zset    lukhas:{t}:order
--        sizes      hash    lukhas:{t}:sizes
--        part...    any     ctx, body and segs of each context
-- ARGV   id...      uuid    the contexts, 1 to 100
-- OK     id fault id fault ...
-- ERR    LKARGUMENT         an argument is not what the header says: name
--- @include "includes/refuse"
--- @include "includes/faults"
--- @include "includes/now_ms"
local index, order, sizes = unpack(KEYS)
local keys, now, answer = {index = index, order = order, sizes = sizes}, now_ms(), {}
if #ARGV > 100 or #KEYS ~= 3 + 3 * #ARGV then refuse('ARGUMENT', 'name=id') end
for i, id in ipairs(ARGV) do
  for _, fault in ipairs((faults_of(keys, KEYS[3 * i + 1], KEYS[3 * i + 2], KEYS[3 * i + 3], id, now))) do
    answer[#answer + 1], answer[#answer + 2] = id, fault
  end
end
return answer
