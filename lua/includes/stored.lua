--- @include "includes/refuse"
-- A number we stored earlier (absent = 0); anything else there means that somebody else wrote to our key.
--
-- ERR    LKCORRUPT          a field of ours holds something else: key
local function stored(key, text)
  if not text then return 0 end
  local number = tonumber(text)
  if not number or number % 1 ~= 0 or math.abs(number) > 9e15 then refuse('CORRUPT', 'key=' .. key) end
  return number
end
