"""Deliveries: claiming events, keeping, finishing and giving them back.

What belongs here: the steps of `claim`, `hold`, `ack` and `retry`. What does not: handlers (`bus`), finishing together
with writes (`transaction`).
Invariant: what is done with a delivery is done only while it is still this worker's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lukhas_redis.bus_models import PRIORITIES, BusEvent, Claimed, Returned, Unreadable
from lukhas_redis.calls import Call, Op
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.keys import ShardKeys
from lukhas_redis.ops.bus.common import (
    HELD,
    STREAMS,
    Ask,
    ask,
    bus_keys,
    explained,
    group_keys,
    shard_number,
    shard_tagged,
    taken_event,
)
from lukhas_redis.ops.frame import ANY_ID, OPEN, Frame
from lukhas_redis.ops.space import Space, settle_on
from lukhas_redis.ops.writing import place_of, tenant_args
from lukhas_redis.scripts import Arg, load

A_CALL = 100
Delivery = BusEvent | Unreadable


def claim(
    space: Space,
    group: str,
    consumer: str,
    count: int,
    *,
    patterns: Sequence[str],
    hold_ms: int,
    max_deliveries: int,
    recover: bool = False,
    shard: int = 0,
) -> Op[Claimed | None]:
    """Take up to `count` events of one shard for a worker; None where the group is not there (see `join`).

    `patterns`: Lua patterns of event names. `recover`: also what the worker has by the books, because a reply was lost;
    these come beyond `count`, and the caller leaves out what it knows it has.

    Raises:
        OutcomeUnknown: Events may have been given to this worker: claim with `recover`.
        Unavailable: Retry later.
    """
    fixed = group, consumer, hold_ms, max_deliveries, tuple(patterns)
    values = {"count": count, "recover": int(recover)}

    def call(keys: ShardKeys) -> Call:
        filled = _frame(space, keys, *fixed).fill(ANY_ID, values)
        return Call(filled.script, keys.tag, filled, packed=filled.packed)

    place = shard_number(space, shard)
    reply = yield from explained(space, settle_on(space, place, call), f"group {group}")
    word = reply[0].decode()
    if word == "NOGROUP":
        return None
    if word != "OK":
        return Claimed((), state=word)
    tag = place().tag
    found = [_read(space, one, tag) for one in reply[3:]]
    return Claimed(
        tuple([one for one in found if type(one) is BusEvent]),
        tuple([one for one in found if type(one) is Unreadable]),
        int(reply[1]) if int(reply[1]) >= 0 else None,
        reply[2] == b"1",
    )


def _frame(
    space: Space,
    keys: ShardKeys,
    group: str,
    consumer: str,
    hold_ms: int,
    max_deliveries: int,
    patterns: tuple[str, ...],
) -> Frame:
    """What the claims of one worker for one subscription have in common."""
    known = "claim", *place_of(space, keys), group, consumer, hold_ms, max_deliveries, patterns
    found = space.frames.get(known)
    if found is not None:
        return found
    args: dict[str, Arg] = {
        **tenant_args(space, keys, dry=False),
        "group": group,
        "consumer": consumer,
        "count": OPEN,
        "hold_ms": hold_ms,
        "max_deliveries": max_deliveries,
        "low_every": space.settings.bus_low_every,
        "recover": OPEN,
        "max_dead": space.settings.bus_max_dead_letters,
    }
    names = {**bus_keys(keys, *STREAMS, "later", "due", "dead", "wake"), **group_keys(keys, group)}
    return space.framed(known, Frame(load("claim"), names, args, patterns))


def _read(space: Space, taken: Sequence[Any], tag: str) -> Delivery:
    rank, stream_id, deliveries = int(taken[0]), taken[1].decode(), int(taken[2])
    priority = PRIORITIES[rank - 1]
    try:
        return taken_event(
            taken[3], space.limits, priority=priority, stream_id=stream_id, shard=tag, deliveries=deliveries
        )
    except (LukhasRedisError, ValueError, KeyError, TypeError) as error:
        return Unreadable(rank, stream_id, deliveries, tag, f"{type(error).__name__}: {error}"[:1000])


def hold(space: Space, group: str, consumer: str, events: Iterable[Delivery], *, hold_ms: int) -> Op[list[Delivery]]:
    """A sign of life for deliveries of one shard: keep them `hold_ms` longer; returns those that are no longer ours.

    Raises:
        Unavailable: Retry soon.
    """
    wanted, lost = list(events), []
    for part in _parts(wanted):
        keys = yield from shard_tagged(space, part[0].shard)
        asked = Ask(
            "hold",
            lambda keys: {**bus_keys(keys, *STREAMS), **group_keys(keys, group, *HELD)},
            {"group": group, "consumer": consumer, "hold_ms": hold_ms},
            _words(part),
        )
        reply = yield from ask(space, lambda keys=keys: keys, asked, f"group {group}")  # type: ignore[misc]
        lost += [one for one, state in zip(part, reply[2:], strict=True) if state != b"MINE"]
    return lost


def ack(space: Space, group: str, consumer: str, events: Iterable[Delivery]) -> Op[list[str]]:
    """Finish deliveries; for each, in the order given: DONE, FENCED (another worker has it) or GONE (finished before).

    Raises:
        Unavailable: Nothing is finished, or only some; retry, which does no harm.
    """
    wanted = list(events)
    # Streams of two priorities, or of two shards, may use the same id.
    states: dict[tuple[str, int, str], str] = {}
    for part in _parts(wanted):
        keys = yield from shard_tagged(space, part[0].shard)
        asked = Ask(
            "ack",
            lambda keys: {**bus_keys(keys, *STREAMS, "wake"), **group_keys(keys, group)},
            {"group": group, "consumer": consumer},
            _words(part),
        )
        reply = yield from ask(space, lambda keys=keys: keys, asked, f"group {group}")  # type: ignore[misc]
        for one, state in zip(part, reply[2:], strict=True):
            states.setdefault((one.shard, one.rank, one.stream_id), state.decode())
    return [states[one.shard, one.rank, one.stream_id] for one in wanted]


def give_back(
    space: Space,
    group: str,
    consumer: str,
    event: Delivery,
    *,
    delay_ms: int = 0,
    max_deliveries: int = 0,
    counted: bool = True,
    reason: str = "error",
    handler: str = "",
    error: str = "",
) -> Op[Returned]:
    """Have an event handled again after `delay_ms`, or make it a dead letter after `max_deliveries` (0 = at once).

    `counted`: this delivery counts; False: it never reached a handler.

    Raises:
        Unavailable: Retry, or leave it: it is taken over when its hold lapses.
    """
    keys = yield from shard_tagged(space, event.shard)
    args: dict[str, Arg] = {
        "group": group,
        "consumer": consumer,
        "rank": event.rank,
        "stream_id": event.stream_id,
        "deliveries": event.deliveries,
        "delay_ms": delay_ms,
        "max_deliveries": max_deliveries,
        "counted": int(counted),
        "max_dead": space.settings.bus_max_dead_letters,
        "reason": reason[:64],
        "handler": _cut(handler, 256),
        "message": _cut(error, 4096),
    }

    def names(keys: ShardKeys) -> dict[str, str]:
        return {**bus_keys(keys, *STREAMS, "dead", "wake"), **group_keys(keys, group)}

    reply = yield from ask(space, lambda: keys, Ask("retry", names, args), f"group {group}")
    word = reply[0].decode()
    detail = reply[1].decode() if len(reply) > 1 else ""
    return Returned(word, int(detail) if word == "RETRY" else None, detail if word == "DEAD" else None)


def _cut(value: str, most: int) -> str:
    return value.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")


def _words(events: Sequence[Delivery]) -> list[Arg]:
    return [word for one in events for word in (one.rank, one.stream_id, one.deliveries)]


def _parts(events: list[Delivery]) -> list[list[Delivery]]:
    """By shard, at most a hundred each."""
    by_shard: dict[str, list[Delivery]] = {}
    for one in events:
        by_shard.setdefault(one.shard, []).append(one)
    return [some[start : start + A_CALL] for some in by_shard.values() for start in range(0, len(some), A_CALL)]
