--- @include "includes/refuse"
-- An argument as a whole number within bounds.
--
-- ERR    LKARGUMENT         an argument is not what the header says: name
local function whole(name, text, low, high)
  local number = tonumber(text)
  if not number or number < low or number > high or number % 1 ~= 0 then refuse('ARGUMENT', 'name=' .. name) end
  return number + 0 -- -0 becomes 0: a server takes no '-0'
end
