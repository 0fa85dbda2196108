-- Several operations as one: each is carried out on paper first, sees what those before it would have done, and only
-- when all have succeeded is anything written. `redis` is replaced for all that follows: writes are noted, and reads of
-- hashes, list lengths, scores and deadlines see them. Members of a sorted set that were removed, or given a score, are not
-- seen by its ranges, so a context that is written in this call is never chosen for eviction by it.
local server = redis
local overlay = {on = true, plan = {}, hashes = {}, lengths = {}, scores = {}, ends = {}, write = {}, read = {}}

local function overlay_fields(key)
  overlay.hashes[key] = overlay.hashes[key] or {fields = {}}
  return overlay.hashes[key].fields
end

function overlay.write.HSET(key, ...)
  local fields, given = overlay_fields(key), {...}
  for i = 1, #given, 2 do fields[given[i]] = given[i + 1] end
end

function overlay.write.HDEL(key, ...)
  local fields = overlay_fields(key)
  for _, name in ipairs({...}) do fields[name] = false end
end

function overlay.write.UNLINK(...)
  for _, key in ipairs({...}) do
    overlay.hashes[key] = {fields = {}, gone = true}
    overlay.lengths[key] = 0
  end
end

function overlay.write.RPUSH(key, ...)
  overlay.lengths[key] = (overlay.lengths[key] or server.call('LLEN', key)) + #{...}
end

function overlay.write.LTRIM(key, first)
  overlay.lengths[key] = math.min(overlay.lengths[key] or server.call('LLEN', key), -first)
end

local function overlay_scores(key)
  overlay.scores[key] = overlay.scores[key] or {}
  return overlay.scores[key]
end

function overlay.write.ZREM(key, ...)
  for _, member in ipairs({...}) do overlay_scores(key)[member] = false end
end

function overlay.write.ZADD(key, ...)
  local given = {...}
  for i = 1, #given, 2 do overlay_scores(key)[given[i + 1]] = tostring(given[i]) end
end

function overlay.write.PEXPIREAT(key, deadline)
  overlay.ends[key] = tonumber(deadline)
end

for _, name in ipairs({'SET', 'PEXPIRE', 'XADD', 'RENAME', 'ZPOPMIN'}) do overlay.write[name] = function() end end

function overlay.read.HMGET(key, ...)
  local found, planned = server.call('HMGET', key, ...), overlay.hashes[key]
  if not planned then return found end
  for i, name in ipairs({...}) do
    local value = planned.fields[name]
    if value ~= nil then found[i] = value elseif planned.gone then found[i] = false end
  end
  return found
end

function overlay.read.HGET(key, name)
  return overlay.read.HMGET(key, name)[1]
end

function overlay.read.LLEN(key)
  local length = server.call('LLEN', key)
  return overlay.lengths[key] or length
end

function overlay.read.ZMSCORE(key, ...)
  local found, planned = server.call('ZMSCORE', key, ...), overlay.scores[key] or {}
  for i, member in ipairs({...}) do
    if planned[member] ~= nil then found[i] = planned[member] end
  end
  return found
end

function overlay.read.ZSCORE(key, member)
  return overlay.read.ZMSCORE(key, member)[1]
end

function overlay.read.PEXPIRETIME(key)
  return overlay.ends[key] or server.call('PEXPIRETIME', key)
end

local function overlay_members(key, found, step)
  local planned, kept = overlay.scores[key], {}
  if not planned then return found end
  for i = 1, #found, step do
    if planned[found[i]] == nil then
      for j = i, i + step - 1 do kept[#kept + 1] = found[j] end
    end
  end
  return kept
end

function overlay.read.ZRANGE(key, ...)
  return overlay_members(key, server.call('ZRANGE', key, ...), 1)
end

function overlay.read.ZRANGEBYSCORE(key, ...)
  local with_scores = false
  for _, word in ipairs({...}) do with_scores = with_scores or word == 'WITHSCORES' end
  return overlay_members(key, server.call('ZRANGEBYSCORE', key, ...), with_scores and 2 or 1)
end

local function overlay_call(command, ...)
  if overlay.on and overlay.write[command] then
    overlay.plan[#overlay.plan + 1] = {command, ...}
    return overlay.write[command](...)
  end
  if overlay.on and overlay.read[command] then return overlay.read[command](...) end
  return server.call(command, ...)
end

local redis = {call = overlay_call, pcall = server.pcall, sha1hex = server.sha1hex}

-- In a dry run the operations run as if the tenant were live and had its record; what they noted is thrown away.
local function overlay_live(flags, shard)
  overlay_fields(flags).mode = 'live'
  if server.call('HEXISTS', shard, 'shards') == 0 then overlay_fields(shard).shards = '1' end
end

-- Whether all that was noted is a repeat's: answers of record, written again so that the server confirms them.
local function overlay_repeats()
  for _, words in ipairs(overlay.plan) do
    if words[1] ~= 'SET' or words[#words] ~= 'KEEPTTL' then return false end
  end
  return true
end

-- Carry out what was noted. The first of it is an XADD, the only command that can refuse once types were checked.
local function overlay_apply()
  overlay.on = false
  for _, words in ipairs(overlay.plan) do server.call(unpack(words)) end
end
