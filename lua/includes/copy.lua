-- Put an event into its stream again, for one group alone; it keeps its own id. Fields that only a dead letter has are
-- left behind. Answers the new stream id; nil where it is no event, or its stream takes none (its last id is the largest).
local function copy_apply(stream, fields, group)
  local words, known = {}, {id = true, event = true, source = true, correlation = true, causation = true, key = true,
    trace = true, at = true, payload = true}
  for i = 1, #fields, 2 do
    if known[fields[i]] then
      known[fields[i]] = false
      if fields[i] == 'payload' then
        words[#words + 1] = 'only'
        words[#words + 1] = group
      end
      words[#words + 1] = fields[i]
      words[#words + 1] = fields[i + 1]
    end
  end
  -- Without a payload no handler can read it, and no other group may get it.
  if known.payload then return nil end
  local made = redis.pcall('XADD', stream, '*', unpack(words))
  return not made.err and made or nil
end

local function copy_map(fields)
  local map = {}
  for i = 1, #fields, 2 do map[fields[i]] = fields[i + 1] end
  return map
end
