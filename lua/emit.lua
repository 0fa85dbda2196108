#!lua
-- emit: put an event on the bus, now or later.
--
-- KEYS   critical   stream  lukhas:{t}:bus:critical
--        high       stream  lukhas:{t}:bus:high
--        normal     stream  lukhas:{t}:bus:normal
--        low        stream  lukhas:{t}:bus:low
--        later      stream  lukhas:{t}:bus:later
--        due        zset    lukhas:{t}:bus:due
--        wake       stream  lukhas:{t}:bus:wake
--        flags      hash    lukhas:{t}:flags
--        shard      hash    lukhas:{t}:shard
--        req        string  lukhas:{t}:req:<request_id>
-- ARGV   @request
--        @tenant
--        id         uuid    the event
--        event      text    its name
--        priority   word    critical, high, normal or low
--        source     text    who emits it
--        correlation text   what it belongs to
--        causation  text    the event that caused it
--        ordering_key text  events with one key are handled one at a time; empty = in any order
--        trace      text    W3C traceparent
--        delay_ms   int     how long it waits first
--        at_ms      int     or until when, whichever is later
--        max_entries int    events a stream may hold
--        max_payload int    bytes a payload may have
--        trimmed    flag    1 = what is finished was trimmed just now
--        payload    bytes   its data, serialized
-- OK     OK dry id stream_id due_ms
--        TRIM               the stream is full: trim what is finished, then repeat
--- @include "includes/distinct"
--- @include "includes/now_ms"
--- @include "includes/request"
--- @include "includes/tenant"
--- @include "includes/emission"
--- @include "includes/wake"
local critical, high, normal, low, later, due, wake, flags, shard, req = unpack(KEYS)
local request_id, request, durable, retention_ms, dry, mode, shards, marker, id, event, priority, source, correlation,
  causation, ordering_key, trace, delay_ms, at_ms, max_entries, max_payload, trimmed, payload = unpack(ARGV)
local keys = {critical = critical, high = high, normal = normal, low = low, later = later, due = due, wake = wake}
distinct(KEYS)
max_entries, max_payload = whole('max_entries', max_entries, 1, 1e9), whole('max_payload', max_payload, 1, 1e9)
retention_ms = whole('retention_ms', retention_ms, 1, 1e10)

local earlier = request_check(req, request_id, request, durable)
if earlier then return earlier end
local tenant = tenant_check(flags, shard, dry, mode, shards, marker, false)
local now = now_ms()
local planned = emission_check(keys, {id = id, event = event, priority = priority, payload = payload, source = source,
  correlation = correlation, causation = causation, ordering_key = ordering_key, trace = trace, delay_ms = delay_ms,
  at_ms = at_ms}, max_payload, now)
if emission_over(keys, {planned}, max_entries, tenant.dry) then
  if trimmed == '0' then return {'TRIM'} end
  refuse('BACKLOG', 'priority=' .. priority .. ' limit=' .. fmt(max_entries))
end
if tenant.dry then return {'OK', '1', id, '0-0', fmt(planned.due_ms)} end

-- writes
local answer = {'OK', '0', id, emission_apply(keys, planned, now), fmt(planned.due_ms)}
wake_one(wake)
request_apply(req, request_id, request, retention_ms, answer)
return answer
