"""emit: put an event on the bus.

What belongs here: the arguments of one event and the steps of `lua/emit.lua`. What does not: events that are emitted
together with a write (`transaction`).
Invariant: after an error that is not `OutcomeUnknown` there is no event; after a repeat with the same idempotency key
there is one.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

from lukhas_redis.bus_models import Emitted, NewEvent
from lukhas_redis.calls import Call, Op, Refused
from lukhas_redis.errors import InvalidArgument
from lukhas_redis.keys import ShardKeys
from lukhas_redis.ops.bus.common import STREAMS, bus_keys, outgoing, placed, text
from lukhas_redis.ops.bus.groups import trim_shard
from lukhas_redis.ops.frame import ANY_ID, OPEN, Frame
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, aside, settle
from lukhas_redis.ops.writing import Write, begin, place_of, request_args, tenant_args, write_call
from lukhas_redis.scripts import Arg, load

_TEXTS = (
    *("event", "priority", "source", "correlation", "causation", "ordering_key", "trace"),
    *("delay_ms", "at_ms"),
)
# Without the trace: who repeats a request may do so under another one.
_ASKED = (*_TEXTS[:6], "delay_ms", "at_ms", "payload")


def emit(
    space: Space,
    event: str | NewEvent,
    payload: Any = None,
    *,
    priority: str = "normal",
    source: str = "",
    correlation_id: str = "",
    causation_id: str = "",
    ordering_key: str = "",
    idempotency_key: str | None = None,
    context_id: str | None = None,
    session_id: str | None = None,
    delay: float | timedelta | None = None,
    at: datetime | None = None,
    traceparent: str = "",
    durability: str | None = None,
    dry_run: bool | None = None,
) -> Op[Emitted]:
    """Put an event on the bus, for every consumer group there is or will be while it is kept.

    `event`: its name, such as `context.ready`, or a `NewEvent`, which has the options with it. `payload`: a dict, a
    pydantic model or a dataclass, up to 64 kB serialized (`bus_max_payload_bytes`); for more, preserve a context and
    emit its id. `priority`: critical, high, normal or low. `ordering_key`: events with one key and priority are handled
    one at a time, in their order. `idempotency_key`: up to 256 bytes; within `request_retention_seconds` a second event
    with it is none, and the first one's id comes back. `context_id`, `session_id`: what it belongs to, so that a
    handler can change that in one step with its acknowledgement (they share a shard). `delay` (seconds) or `at`: not
    delivered before; it is delivered within a second of that by an idle worker.

    After success the event is kept until every consumer group has finished it; `event_id` stays its name.

    Raises:
        InvalidArgument, InvalidId, SerializationError, PayloadTooLarge: Nothing was sent; do not retry.
        RequestReused: The idempotency key stands for another event; nothing was changed.
        Backlog, TenantPaused, Unavailable: There is no event; retry later.
        OutcomeUnknown, DurabilityUnknown: It may be there; repeat with the same idempotency key.
    """
    new = event if isinstance(event, NewEvent) else NewEvent(
        event, {} if payload is None else payload, priority, source, correlation_id, causation_id, ordering_key, delay,
        at, traceparent,
    )  # fmt: skip
    out = outgoing(space, new)
    request_id = None
    if idempotency_key is not None:
        if not idempotency_key:
            raise InvalidArgument("idempotency_key is empty: leave it out, or name the event")
        request_id = request_id_of(text(idempotency_key, "idempotency_key"))
    event_id = placed(
        space,
        context_id=context_id,
        session_id=session_id,
        ordering_key=out.ordering_key,
        idempotency_key=idempotency_key,
    )
    asked = ("emit", *[getattr(out, name) for name in _ASKED])
    write = begin(space, asked, request_id, durability, dry_run)
    values: dict[str, Arg] = {name: getattr(out, name) for name in _TEXTS}
    values |= {"request_id": write.request_id, "request": write.digest, "trimmed": 0}

    def call(keys: ShardKeys) -> Call:
        values["req"] = keys.request(write.request_id)
        filled = _frame(space, keys, write, named=request_id is not None).fill(event_id, values, out.payload)
        return write_call(filled, keys, write)

    try:
        reply = yield from settle(space, event_id, call)
        if reply[0] == b"TRIM":
            yield from aside(trim_shard(space, lambda: space.shard_for(event_id), pressure=True, dry=write.dry))
            values["trimmed"] = 1
            reply = yield from settle(space, event_id, call)
    except Refused as refused:
        subject = f"event {out.event} of tenant {space.tenant}"
        raise explain(refused, subject, reset=space.resets > 0) from None
    _, dry, found_id, stream_id, due_ms = map(bytes.decode, reply)
    return Emitted(found_id, stream_id, int(due_ms), idempotency_key or "", dry_run=write.dry or dry == "1")


def _frame(space: Space, keys: ShardKeys, write: Write, *, named: bool) -> Frame:
    """What emits to one shard have in common."""
    known = "emit", *place_of(space, keys), write.dry, write.durability, named
    found = space.frames.get(known)
    if found is not None:
        return found
    # A repeat of what the caller did not name is the transport's own, within one call's deadline.
    short = {} if named else {"retention_ms": int(space.settings.call_timeout_seconds * 2000) + 5000}
    args: dict[str, Arg] = {
        **request_args(space, write),
        **short,
        **tenant_args(space, keys, dry=write.dry),
        **dict.fromkeys((*_TEXTS, "request_id", "request", "trimmed"), OPEN),
        "id": ANY_ID,
        "max_entries": space.settings.bus_max_entries,
        "max_payload": space.settings.bus_max_payload_bytes,
        "payload": b"",
    }
    names = {**bus_keys(keys, *STREAMS, "later", "due", "wake"), "req": OPEN}
    return space.framed(known, Frame(load("emit"), names, args))


def request_id_of(idempotency_key: str) -> str:
    """The name of the record that an idempotency key is remembered by."""
    return "event-" + hashlib.sha256(idempotency_key.encode()).hexdigest()[:40]
