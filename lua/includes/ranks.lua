-- The priorities by rank: what overtakes comes first.
local function rank_name(rank)
  return ({'critical', 'high', 'normal', 'low'})[rank]
end
