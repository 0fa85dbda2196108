--- @include "includes/whole"
-- How long history is kept.
--
-- ARGV   window=1000       int  lifecycle events kept (about)
--        grace_ms=3600000  int  how long the reason for an absence is kept
--        max_tombs=10000   int  how many reasons are kept
local function keeping_of(window, grace_ms, max_tombs)
  return {
    window = whole('window', window, 1, 1e7),
    grace_ms = whole('grace_ms', grace_ms, 1, 1e10),
    max_tombs = whole('max_tombs', max_tombs, 1, 1e7),
  }
end
