-- Put an event into its stream again, for one group alone; it keeps its own id. Fields that only a dead letter has are
-- left behind. Answers the new stream id.
local function copy_apply(stream, fields, group)
  local words, known = {}, {id = true, event = true, source = true, correlation = true, causation = true, key = true,
    trace = true, at = true, payload = true}
  for i = 1, #fields, 2 do
    if known[fields[i]] then
      if fields[i] == 'payload' then
        words[#words + 1] = 'only'
        words[#words + 1] = group
      end
      words[#words + 1] = fields[i]
      words[#words + 1] = fields[i + 1]
    end
  end
  return redis.call('XADD', stream, '*', unpack(words))
end

local function copy_map(fields)
  local map = {}
  for i = 1, #fields, 2 do map[fields[i]] = fields[i + 1] end
  return map
end
