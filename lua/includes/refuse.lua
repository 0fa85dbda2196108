-- Stop with a code word the server counts (INFO errorstats); only ever called before the first write.
local function refuse(word, facts)
  error({err = facts and ('LK' .. word .. ' ' .. facts) or ('LK' .. word)})
end
