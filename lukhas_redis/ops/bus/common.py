"""What the operations of the bus share: keys by name, calls to one shard, reading and writing events.

What belongs here: the form of an event in a stream and as an argument. What does not: any one operation.
Invariant: the fields of an event are those of `lua/includes/emission.lua`, under the same names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

from lukhas_redis.bus_models import PRIORITIES, BusEvent, NewEvent
from lukhas_redis.calls import Call, Op, Refused
from lukhas_redis.codec import CodecLimits, deserialize, serialize
from lukhas_redis.errors import InvalidArgument, PayloadTooLarge
from lukhas_redis.keys import ShardKeys, session_bits, valid_context_id, valid_name, valid_session
from lukhas_redis.ops.describe import pairs
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, discover, settle_on
from lukhas_redis.ops.writing import tenant_args
from lukhas_redis.scripts import Arg, Script, load

T = TypeVar("T")
STREAMS = PRIORITIES
_HELD = tuple(f"held_{name}" for name in PRIORITIES)
MAX_TEXT_BYTES = 256
_EVENT = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
MAX_DELAY_MS = 31_536_000_000


@lru_cache(maxsize=1024)
def bus_keys(keys: ShardKeys, *names: str) -> Mapping[str, str]:
    """Parts of the bus by name, and `flags` and `shard`, which every script takes."""
    return {**{name: keys.bus(name) for name in names}, "flags": keys.flags, "shard": keys.shard}


@lru_cache(maxsize=1024)
def group_keys(keys: ShardKeys, group: str, *names: str) -> Mapping[str, str]:
    """What a group keeps, by the names of the scripts' headers: all of it, or only `names`."""
    every = {
        "group_key": keys.group(group),
        **{f"held_{name}": keys.group(group, f"held:{name}") for name in PRIORITIES},
        "parked": keys.group(group, "parked"),
        "busy": keys.group(group, "busy"),
    }
    return {name: every[name] for name in names} if names else every


HELD = _HELD


@dataclass(frozen=True, slots=True)
class Ask:
    """One call of a script on one shard, before the shard's keys are known."""

    script: str
    names: Callable[[ShardKeys], Mapping[str, str]]
    args: Mapping[str, Arg]
    more: Sequence[Arg] = ()
    dry: bool = False
    repeatable: bool = True


def ask(space: Space, place: Callable[[], ShardKeys], asked: Ask, subject: str) -> Op[Any]:
    """Run a script of the bus on one shard; refusals become errors about `subject`."""
    script: Script = load(asked.script)

    def call(keys: ShardKeys) -> Call:
        args = {**tenant_args(space, keys, dry=asked.dry), **asked.args}
        words = script.pack(asked.names(keys), args, (), asked.more)
        return Call(script, keys.tag, words, request_id=asked.script if asked.repeatable else None)

    return (yield from explained(space, settle_on(space, place, call), subject))


def explained(space: Space, asked: Op[T], subject: str) -> Op[T]:
    """A call of a script whose refusals become errors about `subject`."""
    try:
        return (yield from asked)
    except Refused as refused:
        raise explain(refused, subject, reset=space.resets > 0) from None


def shard_number(space: Space, number: int) -> Callable[[], ShardKeys]:
    """The place of a shard, to be looked up when the tenant's record is known."""
    return lambda: space.all_shards()[number % len(space.all_shards())]


def shard_tagged(space: Space, tag: str) -> Op[ShardKeys]:
    """The shard of a tag that was in a delivery or a dead letter.

    Raises:
        InvalidArgument: The tenant has no such shard.
    """
    yield from known(space)
    for keys in space.all_shards():
        if keys.tag == tag:
            return keys
    raise InvalidArgument(f"shard {tag!r:.80} is not one of tenant {space.tenant}")


def known(space: Space) -> Op[None]:
    """See to it that the number of shards is known."""
    if space.shards is None:
        yield from discover(space)


# -- arguments ---------------------------------------------------------------------------------------------


def text(value: object, what: str, most: int = MAX_TEXT_BYTES) -> str:
    """A short text without control characters.

    Raises:
        InvalidArgument: It is none; nothing was sent.
    """
    if value == "":
        return ""
    if not isinstance(value, str) or not value.isprintable():
        raise InvalidArgument(f"{what} {value!r:.80} is not text without control characters")
    if len(value.encode("utf-8", "surrogatepass")) > most or any("\ud800" <= c <= "\udfff" for c in value):
        raise InvalidArgument(f"{what} {value!r:.80} has over {most} bytes of UTF-8, or a lone surrogate")
    return value


def event_name(value: object) -> str:
    """The name of an event: words of letters, digits and `_ . : / -`.

    Raises:
        InvalidArgument: It is none; nothing was sent.
    """
    if isinstance(value, str) and _EVENT.fullmatch(value):
        return value
    raise InvalidArgument(f"event {value!r:.80} is not a name: 1 to 128 of A-Z a-z 0-9 _ . : / -")


def group_name(value: object) -> str:
    """The name of a consumer group."""
    return valid_name(value, "group")


def milliseconds(value: object, what: str) -> int:
    """A time span as whole milliseconds, rounded up; None is none.

    Raises:
        InvalidArgument: It is no time span from 0 to a year; nothing was sent.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds is None:
        return 0
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds * 1000 <= MAX_DELAY_MS:
        raise InvalidArgument(f"{what} {value!r:.60} is not a time from 0 seconds to a year")
    return int(-(-seconds * 1000 // 1))


def _moment(value: object) -> int:
    if value is None:
        return 0
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidArgument(f"at {value!r:.60} is not a datetime with a time zone")
    return max(0, int(value.timestamp() * 1000))


@dataclass(frozen=True, slots=True)
class Outgoing:
    """An event with its arguments checked, as the scripts take it."""

    event: str
    priority: str
    payload: bytes
    source: str
    correlation: str
    causation: str
    ordering_key: str
    trace: str
    delay_ms: int
    at_ms: int

    def words(self, event_id: str) -> list[bytes]:
        """In the order that `commit.lua` expects, as bytes."""
        values = (event_id, self.event, self.priority, self.payload, self.source, self.correlation, self.causation,
                  self.ordering_key, self.trace, self.delay_ms, self.at_ms)  # fmt: skip
        return [value if isinstance(value, bytes) else str(value).encode() for value in values]


def outgoing(space: Space, new: object) -> Outgoing:
    """Check an event's arguments and serialize its payload.

    Raises:
        InvalidArgument, SerializationError, PayloadTooLarge: Nothing was sent; do not retry.
    """
    if not isinstance(new, NewEvent):
        raise InvalidArgument(f"an event must be a NewEvent, not {type(new).__name__}")
    if new.priority not in PRIORITIES:
        raise InvalidArgument(f"priority {new.priority!r:.40} is not one of {', '.join(PRIORITIES)}")
    return Outgoing(
        event_name(new.event),
        new.priority,
        payload_bytes(space, new.payload),
        text(new.source, "source"),
        text(new.correlation_id, "correlation_id"),
        text(new.causation_id, "causation_id"),
        text(new.ordering_key, "ordering_key"),
        text(new.traceparent, "traceparent"),
        milliseconds(new.delay, "delay"),
        _moment(new.at),
    )


def payload_bytes(space: Space, payload: Any) -> bytes:
    """Serialize a payload: a dict, or a model or dataclass that is turned into one.

    Raises:
        SerializationError, PayloadTooLarge: Nothing was sent; do not retry.
    """
    limit = space.settings.bus_max_payload_bytes
    data = payload if isinstance(payload, Mapping) else _as_dict(payload)
    raw = serialize(data, space.limits)
    if len(raw) > limit:
        raise PayloadTooLarge(
            f"the payload has {len(raw)} bytes, bus_max_payload_bytes is {limit}; preserve it and emit its id",
            size_bytes=len(raw),
            limit_bytes=limit,
        )
    return raw


def _as_dict(payload: Any) -> Mapping[str, Any]:
    if isinstance(payload, type):
        raise InvalidArgument(
            f"payload must be a dict, a pydantic model or a dataclass, not the class {payload.__name__}"
        )
    if hasattr(payload, "model_dump"):
        return payload.model_dump()  # type: ignore[no-any-return]
    if hasattr(payload, "__dataclass_fields__"):
        return {name: getattr(payload, name) for name in payload.__dataclass_fields__}
    raise InvalidArgument(f"payload must be a dict, a pydantic model or a dataclass, not {type(payload).__name__}")


def placed(
    space: Space, *, context_id: str | None, session_id: str | None, ordering_key: str, idempotency_key: str | None
) -> str:
    """An event id whose first 16 bits put it on the shard of what it belongs to.

    Raises:
        InvalidId: The context or session id is malformed; nothing was sent.
    """
    random = space.mint()
    if context_id is not None:
        bits = valid_context_id(context_id)[:4]
    elif session_id is not None:
        bits = session_bits(valid_session(session_id))
    elif ordering_key or idempotency_key:
        bits = session_bits(f"event {ordering_key or idempotency_key}")
    else:
        bits = random[:4]
    return event_id_of(bits, random)


def event_id_of(bits: str, random: str) -> str:
    """A UUID v4 that begins with four given hex digits."""
    variant = "89ab"[int(random[16], 16) & 3]
    return f"{bits}{random[4:8]}-{random[8:12]}-4{random[13:16]}-{variant}{random[17:20]}-{random[20:]}"


# -- answers -----------------------------------------------------------------------------------------------


def read_event(fields: Mapping[str, bytes], limits: CodecLimits, **where: Any) -> BusEvent:
    """An event from the fields of a stream entry.

    Raises:
        ContextCorrupted, UnsupportedFormat, ValueError, KeyError: It is not what `emit` writes.
    """

    def word(name: str) -> str:
        return fields.get(name, b"").decode("utf-8", "replace")

    return BusEvent(
        event_id=word("id"),
        event=word("event"),
        payload=deserialize(fields["payload"], limits),
        source=word("source"),
        correlation_id=word("correlation"),
        causation_id=word("causation"),
        ordering_key=word("key"),
        traceparent=word("trace"),
        emitted_ms=int(fields.get("at") or 0),
        **where,
    )


def taken_event(flat: Sequence[bytes], limits: CodecLimits, **where: Any) -> BusEvent:
    """An event from the flat fields of a stream entry; a third of the price of `read_event` when `emit` wrote it.

    Raises: as `read_event`.
    """
    if tuple(flat[::2]) != _WRITTEN:
        return read_event(pairs(flat), limits, **where)
    *words, at, _, payload = flat[1::2]
    texts = b"\n".join(words).decode("utf-8", "replace").split("\n")
    if len(texts) != len(words):
        return read_event(pairs(flat), limits, **where)
    event_id, event, source, correlation, causation, key, trace = texts
    return BusEvent(
        event_id=event_id,
        event=event,
        payload=deserialize(payload, limits),
        source=source,
        correlation_id=correlation,
        causation_id=causation,
        ordering_key=key,
        traceparent=trace,
        emitted_ms=int(at or 0),
        **where,
    )


# In the order of `emission_words` in `lua/includes/emission.lua`.
_WRITTEN = (
    *(b"id", b"event", b"source", b"correlation", b"causation", b"key", b"trace"),
    *(b"at", b"only", b"payload"),
)


def entries(found: Iterable[Any]) -> list[tuple[str, dict[str, bytes]]]:
    """Stream entries as ids and fields; those that were deleted are left out."""
    return [(one[0].decode(), pairs(one[1])) for one in found if one and one[1]]
