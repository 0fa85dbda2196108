--- @include "includes/refuse"
-- Whether the caller may write: while a lease is live only its token may, and a token that is not the live one
-- never may (Kleppmann, "How to do distributed locking", 2016: the storage itself refuses the late writer).
--
-- ARGV   lease=       int   the caller's fencing token; empty = it holds none
-- ERR    LKLEASED           somebody holds the context: owner, until
--        LKFENCED           the caller's token is not, or no longer, the live one: token
local function lease_live(lease, now)
  local token, ends = string.match(lease or '', '^(%d+) (%d+)$')
  if token and tonumber(ends) > now then return token, ends end
end

local function lease_check(ctx, lease, token, now)
  local live, ends = lease_live(lease, now)
  if token ~= '' then
    if live ~= token then refuse('FENCED', 'token=' .. (string.match(token, '^%d+$') or '?')) end
  elseif live then
    local owner = redis.call('HGET', ctx, 'lease_owner') or ''
    refuse('LEASED', 'owner=' .. (string.match(owner, '^[%w_.-]+$') or '?') .. ' until=' .. ends)
  end
end
