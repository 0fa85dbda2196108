--- @include "includes/refuse"
-- A payload that came beside the script must still be there, whole and ours.
--
-- ERR    LKSTAGE            the staged payload vanished or was swapped
local function stage_check(key, bytes, header)
  if redis.call('STRLEN', key) ~= bytes or redis.call('GETRANGE', key, 0, #header - 1) ~= header then refuse('STAGE') end
end
