"""pending, status, groups, retire, trim: what the bus says of itself, and the dry runs of all calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lukhas_redis.bus import AsyncContextBus, ContextBus
from lukhas_redis.bus_models import PRIORITIES
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


async def test_pending_goes_past_streams_that_lack_the_group(both: AsyncContextBus, reader: Reader, look: Look) -> None:
    """Of one that was lost from some streams it says what it has on the others; lost from all, it has nothing."""
    worker = reader()
    await both.emit("a", priority="low")
    worker.read("g")
    look.client.xgroup_destroy(look.keys.bus("normal"), "g")
    look.client.delete(look.keys.bus("critical"))
    assert [event and event.event for event, *_ in await both.pending("g")] == ["a"]
    for priority in PRIORITIES:
        look.client.delete(look.keys.bus(priority))
    assert await both.pending("g") == []
    look.client.hdel(look.keys.bus("groups"), "g")
    with pytest.raises(GroupNotFound):
        await both.pending("g")


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


async def test_only_letters_that_had_no_room_count_as_dropped(
    both: AsyncContextBus, reader: Reader, look: Look
) -> None:
    """Those that were redriven or discarded are not lost; books of a stream that was deleted count for no other."""
    worker = reader(bus_max_deliveries=1, bus_max_dead_letters=1)
    for _ in range(5):
        await both.emit("a")
    kill(worker)
    letters = await both.dead_letters()
    await both.redrive(letters[:1])
    await both.discard([*letters[1:3], letters[1], letters[0]])
    status = await both.status()
    assert (status.dead, status.dead_dropped) == (2, 0)
    worker.ack("g", *worker.read("g"))
    # The server trims by whole nodes of a hundred.
    for _ in range(230):
        await both.emit("a")
    kill(worker)
    status = await both.status()
    assert status.dead_dropped == 232 - status.dead > 100
    look.client.delete(look.keys.bus("dead"))
    assert (await both.status()).dead_dropped == 0


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
    assert (given.dry_run, replayed.dry_run, gone.dry_run) == (True, True, True)
    assert (len(given.letter_ids), replayed.events, gone.letters, retired.existed, retired.unfinished) == (
        3,
        4,
        3,
        True,
        1,
    )
    assert_same(before, look.dump())
    live = (await both.redrive(letters), await both.replay(events, group="g"))
    assert live == (replace(given, dry_run=False), replace(replayed, dry_run=False))
    assert (await both.retire("g", force=True)).unfinished == 8


async def test_a_tenant_in_dry_run_is_told_so(both: AsyncContextBus, reader: Reader, look: Look) -> None:
    """Whoever did not ask for a dry run sees from each answer that it was one."""
    worker = reader(bus_max_deliveries=1)
    await both.emit("a")
    kill(worker)
    letters, events = await both.dead_letters(), await both.history()
    await both.store.set_mode("dry_run")
    before = look.dump()
    given, gone = await both.redrive(letters), await both.discard(letters)
    replayed = await both.replay(events, group="g")
    assert (len(given.letter_ids), gone.letters, replayed.events) == (1, 1, 1)
    assert (given.dry_run, gone.dry_run, replayed.dry_run) == (True, True, True)
    assert_same(before, look.dump())
