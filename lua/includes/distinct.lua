--- @include "includes/refuse"
-- The same key in two places would pass every check and then break a write half way.
--
-- ERR    LKARGUMENT         an argument is not what the header says: name
local function distinct(keys)
  local seen = {}
  for _, key in ipairs(keys) do
    if seen[key] then refuse('ARGUMENT', 'name=keys') end
    seen[key] = true
  end
end
