--- @include "includes/refuse"
--- @include "includes/fmt"
-- A token bucket over stored bytes that holds one second's worth; one large write may overdraw it.
--
-- ERR    LKTHROTTLED        the shard's throughput is used up: retry_after_ms
local function throttle_check(usage, now, rate, bytes)
  if rate == 0 then return end
  local idle = now - usage.count.rate_at
  -- A time to come was written by a server whose clock is ahead, before a failover: it says nothing of ours.
  local left = idle < 0 and rate or math.min(rate, usage.count.rate_left + math.floor(idle * rate / 1000))
  if left <= 0 then refuse('THROTTLED', 'retry_after_ms=' .. fmt(math.ceil((1 - left) * 1000 / rate))) end
  usage.count.rate_at, usage.count.rate_left = now, left - bytes
end
