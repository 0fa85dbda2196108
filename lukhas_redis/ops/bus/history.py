"""History: events that are still kept, finished or not; giving them to a group once more.

What belongs here: reading and replaying. What does not: how long events are kept (`groups.trim`).
Invariant: reading changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, TypeAlias

from lukhas_redis.bus_models import PRIORITIES, BusEvent, History, Replayed
from lukhas_redis.calls import Op, Read
from lukhas_redis.errors import GroupNotFound, InvalidArgument, LukhasRedisError
from lukhas_redis.keys import ShardKeys
from lukhas_redis.ops.bus.common import (
    STREAMS,
    Ask,
    ask,
    bus_keys,
    entries,
    group_name,
    known,
    read_event,
    shard_number,
)
from lukhas_redis.ops.bus.groups import groups
from lukhas_redis.ops.bus.letters import checked_count
from lukhas_redis.ops.bus.patterns import fitting
from lukhas_redis.ops.bus.status import books
from lukhas_redis.ops.space import Space

_PAGE = 100
_A_CALL = 100
LOOKED_AT = 10_000


def history(
    space: Space,
    pattern: str = "*",
    *,
    count: int | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    event_id: str | None = None,
    correlation_id: str | None = None,
    priority: str | None = None,
    newest: bool = True,
) -> Op[History]:
    """Up to `count` events (default `max_history`) that are still kept, oldest first; the newest ones unless told.

    `pattern`: of names, as `subscribe` takes it. `since`, `until`: aware datetimes, by the server's clock. Payloads
    that cannot be read are left out. At most 10,000 entries of a stream are looked at; `partial` of the answer says
    that there were more, so that what it lacks may be there all the same: narrow it with `since` and `until`.

    Raises:
        InvalidArgument: Nothing was sent; do not retry.
        Unavailable: Retry later.
    """
    wanted = checked_count(space.settings.max_history if count is None else count)
    if priority is not None and priority not in PRIORITIES:
        raise InvalidArgument(f"priority {priority!r:.40} is not one of {', '.join(PRIORITIES)}")
    named = fitting((pattern,))
    low, high = _bound(since, "since", "-"), _bound(until, "until", "+")

    def fits(event: BusEvent) -> bool:
        return (
            named(event.event) and event_id in (None, event.event_id) and correlation_id in (None, event.correlation_id)
        )

    yield from known(space)
    found: list[BusEvent] = []
    partial = False
    for keys in space.all_shards():
        for name in PRIORITIES if priority is None else (priority,):
            some = yield from _of_stream(space, keys, name, low, high, wanted, fits, newest=newest)
            found += some
            partial = partial or some.partial
    found.sort(key=_age)
    return History(found[-wanted:] if newest else found[:wanted], partial=partial)


def _age(event: BusEvent) -> tuple[int, int]:
    ms, _, number = event.stream_id.partition("-")
    return int(ms), int(number)


def _bound(moment: object, what: str, default: str) -> str:
    if moment is None:
        return default
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise InvalidArgument(f"{what} {moment!r:.60} is not a datetime with a time zone")
    return str(max(0, int(moment.timestamp() * 1000)))


def _of_stream(
    space: Space, keys: ShardKeys, priority: str, low: str, high: str, wanted: int, fits: Any, *, newest: bool
) -> Op[History]:
    found: list[BusEvent] = []
    for left in range(LOOKED_AT, -1, -_PAGE):
        # The last look only tells whether there is more.
        bounds = ("XREVRANGE", keys.bus(priority), high, low) if newest else ("XRANGE", keys.bus(priority), low, high)
        page = yield Read(keys.tag, (*bounds, "COUNT", _PAGE if left else 1))
        if not left:
            return History(found, partial=bool(page))
        for stream_id, fields in entries(page):
            try:
                event = read_event(fields, space.limits, priority=priority, stream_id=stream_id, shard=keys.tag)
            except (LukhasRedisError, ValueError, KeyError, TypeError):
                continue
            if fits(event):
                found.append(event)
        if len(page) < _PAGE or len(found) >= wanted:
            break
        edge = f"({page[-1][0].decode()}"
        low, high = (low, edge) if newest else (edge, high)
    return History(found[:wanted])


def replay(space: Space, events: Sequence[BusEvent], *, group: str, dry_run: bool | None = None) -> Op[Replayed]:
    """Give events of the history to one group once more, in the order given; how many were still there.

    They keep their event ids and come at the end of their streams. Handlers must expect to see them again.

    Raises:
        InvalidArgument, InvalidId: Nothing was sent; do not retry.
        GroupNotFound: Nothing was changed.
        Backlog, TenantPaused, Unavailable: None, or only some, were given; retry later.
    """
    name = group_name(group)
    _check_events(events)
    done, dry = 0, bool(dry_run)
    yield from known(space)
    for keys in space.all_shards():
        mine = [one for one in events if one.shard == keys.tag]
        for start in range(0, len(mine), _A_CALL):
            part = mine[start : start + _A_CALL]
            asked = Ask(
                "replay",
                lambda keys: bus_keys(keys, *STREAMS, "wake", "groups"),
                {"group": name, "max_entries": space.settings.bus_max_entries},
                [word for one in part for word in (one.rank, one.stream_id)],
                dry=dry,
                repeatable=False,
            )
            reply = yield from ask(space, lambda keys=keys: keys, asked, f"group {name}")  # type: ignore[misc]
            done, dry = done + sum(1 for made in reply[2:] if made), dry or reply[1] == b"1"
    return Replayed(name, done, dry)


def _check_events(events: Sequence[object]) -> None:
    for one in events:
        if not isinstance(one, BusEvent):
            raise InvalidArgument(f"replay takes events of `history`, not {type(one).__name__}")


Pending: TypeAlias = tuple[BusEvent | None, str, str, int, int]


def pending(space: Space, group: str, *, count: int = 100) -> Op[list[Pending]]:
    """What a group has not finished of what it was given: event (None: its entry is gone), stream id, worker, idle ms,
    deliveries; up to `count` of each priority and shard, oldest first. `@waiting` is the worker of those nobody has.

    Raises:
        InvalidArgument, InvalidId: Nothing was sent; do not retry.
        GroupNotFound: There is none, on no stream and not in the books.
    """
    name = group_name(group)
    checked_count(count)
    yield from known(space)
    found: list[Pending] = []
    there = False
    for keys in space.all_shards():
        for priority in PRIORITIES:
            rows = yield from _pending_rows(keys, priority, name, count)
            there = there or rows is not None
            found += yield from _pending_events(space, keys, priority, rows or ())
    # One that was lost from every stream has nothing in hand; its workers will make it anew.
    if not there and name not in (yield from groups(space)):
        raise GroupNotFound(f"there is no consumer group {name} of tenant {space.tenant}")
    return found


def _pending_rows(keys: ShardKeys, priority: str, group: str, count: int) -> Op[Sequence[Any] | None]:
    """What a group has in hand of one stream; None where it is not there."""
    try:
        return (yield Read(keys.tag, ("XPENDING", keys.bus(priority), group, "-", "+", count)))  # type: ignore[no-any-return]
    except LukhasRedisError as error:
        if "NOGROUP" in error.message:
            return None
        raise


def _pending_events(space: Space, keys: ShardKeys, priority: str, rows: Sequence[Any]) -> Op[list[Pending]]:
    found: list[Pending] = []
    for sid, worker, idle_ms, deliveries in rows:
        stream_id = sid.decode()
        page = yield Read(keys.tag, ("XRANGE", keys.bus(priority), stream_id, stream_id))
        event = None
        for _, fields in entries(page):
            where = {"priority": priority, "stream_id": stream_id, "shard": keys.tag, "deliveries": deliveries}
            with suppress(LukhasRedisError, ValueError, KeyError, TypeError):
                event = read_event(fields, space.limits, **where)
        found.append((event, stream_id, worker.decode(), int(idle_ms), int(deliveries)))
    return found


def positions(space: Space, group: str, *, shard: int = 0) -> Op[dict[str, str]]:
    """How far a group has read each priority of a shard; "0-0" where there is no such group."""
    name = group_name(group)
    yield from known(space)
    keys = shard_number(space, shard)()
    found = dict.fromkeys(PRIORITIES, "0-0")
    for priority, stream in zip(PRIORITIES, (yield from books(space, keys))[2], strict=True):
        for row in stream[1]:
            if row[0].decode() == name:
                found[priority] = row[3].decode()
    return found


def peek(
    space: Space, cursors: dict[str, str], *, count: int, shard: int = 0
) -> Op[tuple[list[BusEvent], dict[str, str]]]:
    """Up to `count` events after the cursors, critical ones first, and the cursors after them. Changes nothing."""
    yield from known(space)
    keys = shard_number(space, shard)()
    found: list[BusEvent] = []
    after = dict(cursors)
    for priority in PRIORITIES:
        if len(found) >= count:
            break
        page = yield Read(
            keys.tag, ("XRANGE", keys.bus(priority), f"({after[priority]}", "+", "COUNT", count - len(found))
        )
        for stream_id, fields in entries(page):
            after[priority] = stream_id
            try:
                found.append(read_event(fields, space.limits, priority=priority, stream_id=stream_id, shard=keys.tag))
            except (LukhasRedisError, ValueError, KeyError, TypeError):
                continue
    return found, after
