--- @include "includes/refuse"
-- The first answer given to a request id, and remembering it.
--
-- ARGV   request_id=  id    names the request; empty = remember nothing
--        request=     hex   digest of the caller's own arguments
--        durable=0    flag  1 = a repeat rewrites its record: WAIT confirms nothing where nothing was written
--        retention_ms=600000 int  how long the answer is remembered
-- ERR    LKREUSED           the request id stands for other arguments
local function request_check(key, id, digest, durable)
  local record = id ~= '' and redis.call('GET', key)
  if not record then return nil end
  local fields = {}
  for field in string.gmatch(record, '([^\n]*)\n') do fields[#fields + 1] = field end
  if table.remove(fields, 1) ~= digest then refuse('REUSED') end
  if durable == '1' then redis.call('SET', key, record, 'KEEPTTL') end
  return fields
end

local function request_apply(key, id, digest, retention_ms, answer)
  if id ~= '' then
    redis.call('SET', key, digest .. '\n' .. table.concat(answer, '\n') .. '\n', 'PX', retention_ms)
  end
end
