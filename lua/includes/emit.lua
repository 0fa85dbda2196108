-- Append a lifecycle event. Called as the first of all writes: XADD is the only one that can fail (a stream
-- whose last id is the largest possible), and then nothing has been written yet.
local function emit(events, window, event, id, version)
  redis.call('XADD', events, 'MAXLEN', '~', window, '*', 'event', event, 'id', id, 'version', version)
end
