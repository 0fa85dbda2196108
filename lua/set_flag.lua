#!lua flags=allow-oom
-- set_flag: change the tenant's mode, a limit or a feature flag for every worker, and say so in the audit.
--
-- KEYS   flags      hash    lukhas:{t}:flags
--        audit      stream  lukhas:{t}:audit
-- ARGV   name       word    mode, max_entries, max_bytes, policy, max_mbps, or flag.<name>
--        value=     text    the new value; empty = back to the default
--        by=redis-cli text  who
--        reason=    text    why
--        window=10000 int   audit entries kept (about)
-- OK     OK from to
-- EMITS  audit
-- FCALL  flags
--- @include "includes/whole"
--- @include "includes/fmt"
--- @include "includes/matching"
--- @include "includes/distinct"
local flags, audit = unpack(KEYS)
local name, value, by, reason, window = unpack(ARGV)
local allowed = {mode = {live = 1, dry_run = 1, paused = 1}, policy = {reject = 1, evict_oldest = 1, evict_lru = 1}}
distinct(KEYS)
window = whole('window', window, 1, 1e7)
if #value > 256 or #by > 256 or #reason > 256 then refuse('ARGUMENT', 'name=value') end
if allowed[name] then
  if value ~= '' and not allowed[name][value] then refuse('ARGUMENT', 'name=value') end
elseif name == 'max_entries' or name == 'max_bytes' or name == 'max_mbps' then
  if value ~= '' then value = fmt(whole('value', value, 0, 1e15)) end
else
  matching('name', name, '^flag%.[%w_.-]+$')
end
local from = redis.call('HGET', flags, name) or ''

-- writes
redis.call('XADD', audit, 'MAXLEN', '~', window, '*', 'flag', name, 'from', from, 'to', value, 'by', by, 'why', reason)
if value == '' then redis.call('HDEL', flags, name) else redis.call('HSET', flags, name, value) end
return {'OK', from, value}
