"""Several changes as one: operations of the store, further events, and the end of a delivery.

What belongs here: carrying operations out on the way to one `commit`. What does not: the operations; they are driven
as they are. Each asks for reads and preparations as usual; the call with which it would write becomes a part of the
commit, and it is answered with its part of the commit's answer.
Invariant: nothing is written unless all of it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import msgpack

from lukhas_redis.bus_models import BusEvent, Committed, NewEvent
from lukhas_redis.calls import Call, Op, Refused, Request
from lukhas_redis.errors import DeliveryLost, InvalidArgument, LukhasRedisError, Unavailable
from lukhas_redis.keys import ShardKeys
from lukhas_redis.ops.bus.common import STREAMS, Outgoing, bus_keys, event_id_of, group_keys, outgoing
from lukhas_redis.ops.bus.groups import trim_shard
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, aside, settle_on
from lukhas_redis.ops.writing import tenant_args
from lukhas_redis.scripts import Arg, load

T = TypeVar("T")
MAX_OPERATIONS = 16
_MOST_STEPS = 300
_PARTS = frozenset({"append", "drop", "extend", "handoff", "pin", "preserve"})
_NO_GROUP = "none"


@dataclass(slots=True)
class _Part:
    """One operation: what it waits for, or its result. `call` is its write, waiting for the commit."""

    op: Op[Any]
    number: int
    call: Call | None = None
    result: Any = None
    finished: bool = False

    def step(self, reply: Any) -> Request | tuple[Request, ...] | None:
        """Go on with a reply or an error; what it asks for next, or None when it has come to its write or its end."""
        try:
            wanted = self.op.throw(reply) if isinstance(reply, BaseException) else self.op.send(reply)
        except StopIteration as done:
            self.result, self.finished, self.call = done.value, True, None
            return None
        if type(wanted) is Call and wanted.script.name == "commit":
            raise InvalidArgument(f"operation {self.number} has events of its own (emit=): give them to the commit")
        if type(wanted) is Call and wanted.script.name in _PARTS:
            self.call = wanted
            return None
        self.call = None
        return wanted


@dataclass(slots=True)
class _Commit:
    space: Space
    parts: list[_Part]
    events: list[tuple[str, Outgoing]]
    delivery: BusEvent | None = None
    group: str = ""
    consumer: str = ""
    dry: bool = False
    nameless: bool = True
    trimmed: bool = False


def commit(
    space: Space,
    operations: Sequence[Op[Any]],
    events: Sequence[NewEvent] = (),
    *,
    delivery: BusEvent,
    group: str = "",
    consumer: str = "",
    dry_run: bool = False,
) -> Op[Committed]:
    """Finish a delivery together with up to 16 operations and 16 events on its shard: all of it, or nothing.

    `operations`: as `ops.append(space, ...)` makes them. Each sees what those before it change, except that a path is
    looked for in the data as it was before. A delivery that another worker has taken over writes nothing.

    Raises:
        DeliveryLost: Another worker has the event, or it was finished before; nothing was written.
        What the operations raise: Nothing was written.
        InvalidArgument: Too many, too large, or on another shard; nothing was written.
        Unavailable: Nothing was written; retry.
        OutcomeUnknown: It may be done; repeating is safe, as a delivery ends once.
    """
    made = _Commit(space, _parts(operations), _outgoing(space, events), delivery, group, consumer, dry_run)
    return (yield from _run(made))


Outbox: TypeAlias = NewEvent | Sequence[NewEvent]
"""Events that go with a write: one, or up to 16."""


def with_events(space: Space, change: Op[T], emit: Outbox) -> Op[T]:
    """A write as it is, or, where there are events, together with them in one step."""
    events = (emit,) if isinstance(emit, NewEvent) else tuple(emit)
    return outbox(space, change, events) if events else change


def outbox(space: Space, operation: Op[T], events: Sequence[NewEvent], *, dry_run: bool = False) -> Op[T]:
    """Do one write of the store and emit events with it, in one step; returns the write's result.

    Raises:
        What the write raises; PayloadTooLarge, Backlog, InvalidArgument for the events: Nothing was written.
    """
    made = _Commit(space, _parts([operation]), _outgoing(space, events), dry=dry_run, nameless=False)
    done = yield from _run(made)
    result: T = done.results[0]
    return result


def _parts(operations: Sequence[Op[Any]]) -> list[_Part]:
    if len(operations) > MAX_OPERATIONS:
        raise InvalidArgument(f"{len(operations)} operations in one commit; {MAX_OPERATIONS} are allowed")
    return [_Part(op, number) for number, op in enumerate(operations, 1)]


def _outgoing(space: Space, events: Sequence[NewEvent]) -> list[tuple[str, Outgoing]]:
    if len(events) > MAX_OPERATIONS:
        raise InvalidArgument(f"{len(events)} events in one commit; {MAX_OPERATIONS} are allowed")
    return [(space.mint(), outgoing(space, one)) for one in events]


def _run(made: _Commit) -> Op[Committed]:
    try:
        for part in made.parts:
            yield from _prepared(part, None)
        for _ in range(_MOST_STEPS):
            waiting = [part for part in made.parts if not part.finished]
            if made.parts and not waiting and made.delivery is None:
                # An operation may find that it was done before.
                return Committed(_results(made), 0, made.dry)
            reply = yield from _tried(made, waiting)
            if reply is not None:
                return Committed(_results(made), int(reply[2]), reply[1] == b"1")
        raise Unavailable(f"{_subject(made)}: others change what it needs faster than it can be committed")
    finally:
        for part in made.parts:
            part.op.close()


def _results(made: _Commit) -> tuple[Any, ...]:
    return tuple(part.result for part in made.parts)


def _tried(made: _Commit, waiting: list[_Part]) -> Op[Any]:
    """One attempt: the answer of the commit, or None after doing what it needs first."""
    keys = _place(made, waiting)
    try:
        reply = yield from _sent(made, waiting, keys)
    except Refused as refused:
        number = int(refused.facts.pop("op", 0))
        if not number:
            raise explain(refused, _subject(made), reset=made.space.resets > 0) from None
        yield from _prepared(waiting[number - 1], refused)
        return None
    except LukhasRedisError as error:
        # An operation may know better what a failed write means for what it holds.
        for part in waiting:
            yield from _prepared(part, error)
        raise
    if reply[0] != b"OK":
        yield from _asked(made, waiting, reply, keys)
        return None
    for part, answer in zip(waiting, reply[3:], strict=True):
        yield from _prepared(part, answer)
    return reply


def _prepared(part: _Part, reply: Any) -> Op[None]:
    """Carry an operation on until it comes to its write or its end; an error it ends with goes on to the caller."""
    wanted = part.step(reply)
    while wanted is not None:
        try:
            answer = yield wanted
        except Exception as error:  # noqa: BLE001 - the operation judges what its request met
            answer = error
        wanted = part.step(answer)


def _asked(made: _Commit, waiting: list[_Part], reply: Sequence[Any], keys: ShardKeys) -> Op[None]:
    """Do what the commit asks for before it can be made."""
    word = reply[0].decode()
    if word == "STEP":
        yield from _prepared(waiting[int(reply[1]) - 1], reply[2])
    elif word == "TRIM":
        yield from aside(trim_shard(made.space, lambda: keys, pressure=True, dry=made.dry))
        made.trimmed = True
    else:
        why = "was finished before" if word == "GONE" else "was taken over by another worker"
        raise DeliveryLost(f"{_subject(made)}: it {why}; nothing was written", state=word)


def _place(made: _Commit, waiting: list[_Part]) -> ShardKeys:
    """The shard of everything in the commit.

    Raises:
        InvalidArgument: It is not one.
    """
    space, delivery = made.space, made.delivery
    tags = {part.call.tag for part in waiting if part.call is not None}
    if delivery is not None:
        tags.add(delivery.shard)
    if len(tags) != 1:
        raise InvalidArgument(
            f"{_subject(made)}: contexts on several shards ({', '.join(sorted(tags))}) cannot change in one step; emit "
            "the event with the context_id or session_id of what its handler changes"
        )
    tag = tags.pop()
    found = next((keys for keys in space.all_shards() if keys.tag == tag), None)
    if found is None:
        raise InvalidArgument(f"shard {tag!r:.80} is not one of tenant {space.tenant}")
    return found


def _sent(made: _Commit, waiting: list[_Part], keys: ShardKeys) -> Op[Any]:
    script, delivery, space = load("commit"), made.delivery, made.space
    calls = [_written(made, part) for part in waiting]
    dry = made.dry or any(one.words[_place_of(one, "dry")] in (1, "1") for one in calls)
    group = made.group if delivery is not None and not dry else ""
    args: dict[str, Arg] = {
        "group": group,
        "consumer": made.consumer,
        "rank": delivery.rank if delivery else 1,
        "stream_id": delivery.stream_id if delivery else "0-0",
        "deliveries": max(1, delivery.deliveries) if delivery else 1,
        "max_entries": space.settings.bus_max_entries,
        "max_payload": space.settings.bus_max_payload_bytes,
        "trimmed": int(made.trimmed),
        "events": _packed_events(made, keys),
    }
    names = {**bus_keys(keys, *STREAMS, "later", "due", "wake"), **group_keys(keys, group or _NO_GROUP)}
    inner_keys = [str(key) for one in calls for key in one.words[1 : 1 + int(one.words[0])]]
    words = [word for one in calls for word in _operation_words(one, nameless=made.nameless)]
    named = calls[0].request_id if calls and not made.nameless else "commit"
    stage = next((one.stage for one in calls if one.stage), None)
    durability = max((one.durability for one in calls), key=_LEVELS.index, default="memory")

    def call(_: ShardKeys) -> Call:
        packed = script.pack(names, {**tenant_args(space, keys, dry=dry), **args}, inner_keys, words)
        return Call(script, keys.tag, packed, request_id=named, stage=stage, durability=durability)

    return (yield from settle_on(space, lambda: keys, call))


def _written(made: _Commit, part: _Part) -> Call:
    """The write an operation came to.

    Raises:
        InvalidArgument: It cannot be part of a commit.
    """
    if part.call is None:
        raise InvalidArgument(f"{_subject(made)}: operation {part.number} is none that can be part of a commit")
    if part.call.stage is not None and made.nameless:
        limit = made.space.settings.inline_body_bytes
        raise InvalidArgument(
            f"{_subject(made)}: operation {part.number} is too large for a commit: inline_body_bytes={limit}"
        )
    return part.call


def _operation_words(call: Call, *, nameless: bool) -> list[Arg]:
    """An operation as the commit takes it; the commit itself looks at the tenant.

    A delivery ends once: no record of its parts is needed to repeat it (`nameless`).
    """
    count = int(call.words[0])
    given = list(call.words[1 + count :])
    for name in ("request_id", "marker", "shards") if nameless else ("marker", "shards"):
        given[call.script.arg_names.index(name)] = ""
    given[call.script.arg_names.index("dry")] = 0
    return [call.script.name, count, len(given), *given]


def _place_of(call: Call, name: str) -> int:
    """Where an argument of a call stands among its words."""
    return 1 + int(call.words[0]) + call.script.arg_names.index(name)


_LEVELS = ("memory", "local", "replicated")


def _packed_events(made: _Commit, keys: ShardKeys) -> bytes:
    """Their ids are of the shard they are on, so that whoever handles them can commit there."""
    count = made.space.shard_count
    number = made.space.all_shards().index(keys)
    rows = [
        one.words(event_id_of(random[:4] if count == 1 else f"{number:04x}", random)) for random, one in made.events
    ]
    return msgpack.packb(rows, use_bin_type=False)  # type: ignore[no-any-return]


def _subject(made: _Commit) -> str:
    if made.delivery is None:
        return f"a write of tenant {made.space.tenant} with events"
    return f"event {made.delivery.event_id} ({made.delivery.event}) of tenant {made.space.tenant}"
