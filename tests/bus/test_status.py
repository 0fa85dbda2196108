"""pending, status, groups, retire, trim: what the bus says of itself, and the dry runs of all calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lukhas_redis.bus import AsyncContextBus, ContextBus
from lukhas_redis.errors import GroupNotFound, GroupPending, InvalidId
from lukhas_redis.testing import assert_same, wait_until
from tests.bus.conftest import Look

Reader = Callable[..., ContextBus]


def kill(reader: ContextBus, group: str = "g", **args: Any) -> None:
    """Give up everything that a group is given next."""
    while events := reader.read(group, count=100, **args):
        for one in events:
            reader.retry(group, one, error="no good")


async def test_pending_says_who_has_what(both: AsyncContextBus, reader: Reader, look: Look) -> None:
    """Event, worker, deliveries; what nobody has is `@waiting`'s, and an entry that vanished has no event."""
    worker = reader()
    for number in range(3):
        await both.emit("a", {"n": number}, ordering_key=("", "k", "k")[number])
    first, _ = worker.read("g", count=10)
    look.client.xdel(look.keys.bus("normal"), first.stream_id)
    rows = await both.pending("g")
    assert [(event and event.payload["n"], who, count) for event, _, who, _, count in rows] == [
        (None, worker._consumer, 1),
        (1, worker._consumer, 1),
        (2, "@waiting", 0),
    ]
    assert len(await both.pending("g", count=1)) == 1
    with pytest.raises(GroupNotFound):
        await both.pending("nobody")
    with pytest.raises(InvalidId):
        await both.pending("a b")


async def test_status_adds_up(both: AsyncContextBus, reader: Reader, look: Look) -> None:
    """Lengths, lag, pending, workers and counts of record; the oldest unfinished event by its own age."""
    worker = reader(bus_max_deliveries=1)
    assert (await both.status()).groups == ()
    for number in range(6):
        await both.emit("a", {"n": number}, priority=("normal", "low")[number % 2])
    await both.emit("later", delay=3600)
    one, two, three = worker.read("g", count=3)
    worker.ack("g", one)
    worker.retry("g", two)
    status = await both.status()
    (group,) = status.groups
    assert (status.lengths, status.delayed, status.dead) == ({"critical": 0, "high": 0, "normal": 3, "low": 3}, 1, 1)
    assert (group.name, group.lag, group.pending, dict(group.workers)) == ("g", 3, 1, {worker._consumer: 1})
    assert {name: group.counts[name] for name in ("delivered", "done", "dead", "lost")} == {
        "delivered": 3,
        "done": 1,
        "dead": 1,
        "lost": 0,
    }
    assert 0 < group.oldest_ms <= look.now_ms() - min(one.emitted_ms, three.emitted_ms)
    assert await both.groups() == ["g"]


async def test_the_oldest_event_is_as_old_as_it_is(both: AsyncContextBus, reader: Reader, look: Look) -> None:
    """An event that came after a long calm is young, however long ago the one before it was."""
    worker = reader()
    await both.emit("old")
    worker.ack("g", *worker.read("g"))
    assert (await both.status()).groups[0].oldest_ms == 0
    old = (await both.history())[-1].emitted_ms
    wait_until(lambda: look.now_ms() > old + 300, what="a calm")
    before = look.now_ms()
    await both.emit("new")
    assert (await both.status()).groups[0].oldest_ms <= look.now_ms() - before


async def test_an_abandoned_group_is_reported_and_retired(both: AsyncContextBus, reader: Reader, look: Look) -> None:
    """It keeps events from being forgotten, says so, and is ended by force alone."""
    worker = reader()
    await both.emit("a")
    worker.read("gone")
    worker.ack("g", *worker.read("g"))
    assert (await both.trim()).events == 0
    status = {one.name: one for one in (await both.status()).groups}
    assert (status["gone"].pending, status["g"].pending) == (1, 0)
    assert status["gone"].idle_ms is not None
    with pytest.raises(GroupPending) as caught:
        await both.retire("gone")
    assert caught.value.fields["unfinished"] == 1
    retired = await both.retire("gone", force=True)
    assert (retired.existed, retired.unfinished) == (True, 1)
    assert await both.groups() == ["g"]
    assert not (await both.retire("gone")).existed
    assert not [key for key in look.dump() if b":group:gone" in key]


async def test_trim_keeps_the_history_and_what_is_unfinished(make_both: Any, reader: Reader) -> None:
    """Without history what all groups have finished goes; with it, it stays until it is old."""
    bus, short = make_both(), make_both(bus_history_seconds=0)
    worker = reader()
    for _ in range(3):
        await bus.emit("a")
    events = worker.read("g", count=3)
    worker.ack("g", *events[:2])
    assert (await bus.trim()).events == 0
    assert (await short.trim()).events == 2
    assert [one.event_id for one in await bus.history()] == [events[2].event_id]


async def test_dry_runs_of_all_of_it_change_nothing(both: AsyncContextBus, reader: Reader, look: Look) -> None:
    """Each answers with the type and the numbers of live."""
    worker = reader(bus_max_deliveries=1)
    for _ in range(3):
        await both.emit("a")
    kill(worker)
    worker.emit("b")
    worker.read("g")
    letters, events = await both.dead_letters(), await both.history()
    before = look.dump()
    emitted = await both.emit("c", dry_run=True)
    given = await both.redrive(letters, dry_run=True)
    replayed = await both.replay(events, group="g", dry_run=True)
    gone = await both.discard(letters, dry_run=True)
    retired = await both.retire("g", force=True, dry_run=True)
    trimmed = await both.trim(dry_run=True)
    assert (emitted.dry_run, retired.dry_run, trimmed.dry_run) == (True, True, True)
    assert (len(given), replayed, gone, retired.existed, retired.unfinished) == (3, 4, 3, True, 1)
    assert_same(before, look.dump())
    assert (await both.redrive(letters), await both.replay(events, group="g")) == (given, replayed)
    assert (await both.retire("g", force=True)).unfinished == 8
