-- What `sizes` holds of a context, "<bytes> <type>", as a number and a text.
local function account_split(size)
  local bytes, type = string.match(size or '', '^(%d+) (.+)$')
  return tonumber(bytes or 0), type
end
