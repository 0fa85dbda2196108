--- @include "includes/refuse"
-- An argument as a whole number within bounds (15 digits at most, so that a double holds it exactly).
--
-- ERR    LKARGUMENT         an argument is not what the header says: name
local function whole(name, text, low, high)
  local number = #text <= 16 and string.match(text, '^-?%d+$') and tonumber(text)
  if not number or number < low or number > high then refuse('ARGUMENT', 'name=' .. name) end
  return number
end
