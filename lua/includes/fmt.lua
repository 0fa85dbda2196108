-- A number as Redis should store it: tostring() would turn milliseconds into 1.79e+12.
local function fmt(number)
  return string.format('%.0f', number)
end
