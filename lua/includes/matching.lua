--- @include "includes/refuse"
-- An argument as text of one pattern; the pattern is ours, never the caller's.
--
-- ERR    LKARGUMENT         an argument is not what the header says: name
local function matching(name, text, pattern)
  if not string.match(text, pattern) then refuse('ARGUMENT', 'name=' .. name) end
  return text
end
