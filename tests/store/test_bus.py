"""The bus as both of its faces show it, on every topology: what is emitted, read, given back, listed and ended.

What belongs here: what `ContextBus` and `AsyncContextBus` promise alike. What does not: transactions and the life of
workers (`tests/faults`), single scripts (`tests/lua`).
"""

from __future__ import annotations

import inspect
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lukhas_redis.bus import AsyncContextBus, BusEvent, ContextBus, NewEvent
from lukhas_redis.errors import (
    Backlog,
    GroupNotFound,
    GroupPending,
    InvalidArgument,
    InvalidId,
    PayloadTooLarge,
    RequestReused,
    SerializationError,
    TenantPaused,
)
from lukhas_redis.ops import bus as bus_ops
from lukhas_redis.testing import wait_until_async
from tests.store.conftest import MakesBuses, MakesReaders

core = pytest.mark.core

PAYLOAD: dict[str, Any] = {"n": 1, "x": 1.5, "text": "ä", "raw": b"\0\xff", "many": [1, None, {"deep": True}]}


def _numbers(events: list[BusEvent]) -> list[int]:
    return [event.payload["n"] for event in events]


@core
async def test_every_group_gets_what_was_emitted_with_all_its_fields(
    bus: AsyncContextBus, reader: MakesReaders
) -> None:
    """Two groups each get the event once; payload, names, ids, trace and the server's time arrive as given."""
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    made = await bus.emit(
        "context.ready", PAYLOAD, priority="high", source="tests", correlation_id="c", causation_id="d",
        ordering_key="k", session_id="s", traceparent=trace,
    )  # fmt: skip
    for group in ("first", "second"):
        (event,) = await reader(bus, group).take(1)
        assert event.payload == PAYLOAD
        assert (event.event_id, event.event, event.priority, event.rank) == (made.event_id, "context.ready", "high", 2)
        assert (event.source, event.correlation_id, event.causation_id) == ("tests", "c", "d")
        assert (event.ordering_key, event.traceparent, event.deliveries) == ("k", trace, 1)
        assert (event.stream_id, event.emitted_ms) == (made.stream_id, made.due_ms)
        assert event.emitted_at.tzinfo is UTC
    status = await bus.status()
    assert {one.name: (one.lag, one.pending, one.counts["done"]) for one in status.groups} == {
        "first": (0, 0, 1), "second": (0, 0, 1),
    }  # fmt: skip
    assert await bus.groups() == ["first", "second"]


@core
async def test_urgent_events_overtake_and_low_ones_do_not_starve(make_bus: MakesBuses, reader: MakesReaders) -> None:
    """By priority, first in first out within one; one of `bus_low_every` goes to the lower ones first."""
    bus = make_bus(bus_low_every=4)
    for n, priority in enumerate(["low", "normal", "normal", "high", "critical", "critical", "normal", "low"]):
        await bus.emit("a", {"n": n}, priority=priority)
    taken = await reader(bus, "g").take(8)
    assert taken[0].priority == "critical"
    assert {event.priority for event in taken[:4]} & {"normal", "low"}
    for priority in ("critical", "high", "normal", "low"):
        mine = _numbers([event for event in taken if event.priority == priority])
        assert mine == sorted(mine)
    assert sorted(_numbers(taken)) == list(range(8))


@core
async def test_events_of_one_key_come_one_at_a_time_in_order(bus: AsyncContextBus, reader: MakesReaders) -> None:
    """A retry holds its key, whatever else is there; other keys go on."""
    for n in range(6):
        await bus.emit("a", {"n": n}, ordering_key="k" if n % 2 else "other", session_id="s")
    failed: list[int] = []

    def again(event: BusEvent) -> bool:
        first = event.payload["n"] in (1, 3) and event.deliveries == 1
        failed.extend([event.payload["n"]] if first else [])
        return first

    taken = await reader(bus, "g").take(8, again)
    assert [n for n in _numbers(taken) if n % 2] == [1, 1, 3, 3, 5]
    assert [n for n in _numbers(taken) if n % 2 == 0] == [0, 2, 4]
    assert failed == [1, 3]


@core
async def test_an_idempotency_key_stands_for_one_event(bus: AsyncContextBus) -> None:
    """The same key and event: the first answer; the same key for another event: refused."""
    first = await bus.emit("a", {"n": 1}, idempotency_key="order 17")
    again = await bus.emit("a", {"n": 1}, idempotency_key="order 17")
    assert (again.event_id, again.stream_id, again.request_id) == (first.event_id, first.stream_id, "order 17")
    with pytest.raises(RequestReused):
        await bus.emit("a", {"n": 2}, idempotency_key="order 17")
    assert len(await bus.history()) == 1


@core
async def test_a_delayed_event_is_not_there_before_its_time(bus: AsyncContextBus, reader: MakesReaders) -> None:
    """`delay` and `at`: counted as delayed, handled when due, under the same event id."""
    late = await bus.emit("a", {"n": 1}, delay=0.3)
    at = await bus.emit("a", {"n": 2}, at=datetime.now(UTC) + timedelta(seconds=0.4))
    now = await bus.emit("a", {"n": 0})
    assert (await bus.status()).delayed == 2
    taken = await reader(bus, "g").take(3)
    assert [event.event_id for event in taken] == [now.event_id, late.event_id, at.event_id]
    assert (await bus.status()).delayed == 0


@core
async def test_what_fails_too_often_is_a_dead_letter(make_bus: MakesBuses, reader: MakesReaders) -> None:
    """After `bus_max_deliveries`: listed with why and from where, redriven to its group alone, or thrown away."""
    bus = make_bus(bus_max_deliveries=2)
    made = [await bus.emit("a", {"n": n}, source="tests", session_id="s") for n in range(2)]
    assert len(await reader(bus, "other").take(2)) == 2
    bad = await reader(bus, "g").take(4, lambda _: True)
    assert sorted(event.deliveries for event in bad) == [1, 1, 2, 2]
    await wait_until_async(lambda: _dead(bus, 2))
    letters = {one.event_id: one for one in await bus.dead_letters(group="g")}
    assert set(letters) == {one.event_id for one in made}
    for one in letters.values():
        assert (one.group, one.name, one.priority, one.deliveries) == ("g", "a", "normal", 2)
        assert "not now" in one.error
        assert one.event is not None
        assert one.event.source == "tests"
    assert await bus.dead_letters(group="other") == []
    redriven, thrown = letters[made[0].event_id], letters[made[1].event_id]
    assert (await bus.redrive([redriven], dry_run=True)).letter_ids == (redriven.letter_id,)
    assert (await bus.redrive([redriven])).letter_ids == (redriven.letter_id,)
    assert (await bus.redrive([redriven])).letter_ids == ()
    assert (await bus.discard([thrown])).letters == 1
    assert (await bus.discard([thrown])).letters == 0
    (event,) = await reader(bus, "g").take(1)
    assert (event.event_id, event.deliveries) == (made[0].event_id, 1)
    await wait_until_async(lambda: _skipped(bus, reader, "other"))
    assert (await bus.status()).dead == 0


async def _dead(bus: AsyncContextBus, count: int) -> bool:
    return (await bus.status()).dead == count


async def _skipped(bus: AsyncContextBus, reader: MakesReaders, group: str) -> bool:
    """Whether a group has passed over what is not for it, by taking one more event."""
    await bus.emit("more", {"n": -1}, session_id="s")
    (event,) = await reader(bus, group).take(1)
    return event.event == "more"


@core
async def test_history_is_searched_and_replayed_to_one_group(bus: AsyncContextBus, reader: MakesReaders) -> None:
    """By name, id, correlation, priority and time; replayed events come to one group, with their ids."""
    made = [
        await bus.emit(f"a.{n}", {"n": n}, correlation_id=f"c{n % 2}", priority="high" if n == 3 else "normal")
        for n in range(5)
    ]
    for group in ("g", "h"):
        await reader(bus, group).take(5)
    assert {e.event_id for e in await bus.history()} == {one.event_id for one in made}
    assert _numbers(await bus.history("a.4")) == [4]
    assert _numbers(await bus.history(event_id=made[2].event_id)) == [2]
    assert sorted(_numbers(await bus.history(correlation_id="c1"))) == [1, 3]
    assert _numbers(await bus.history(priority="high")) == [3]
    assert await bus.history(until=datetime.now(UTC) - timedelta(hours=1)) == []
    assert len(await bus.history(since=datetime.now(UTC) - timedelta(hours=1), count=3)) == 3
    old = await bus.history("a.1") + await bus.history("a.2")
    assert (await bus.replay(old, group="g", dry_run=True)).events == 2
    assert (await bus.replay(old, group="g")).events == 2
    assert sorted(_numbers(await reader(bus, "g").take(2))) == [1, 2]
    with pytest.raises(GroupNotFound):
        await bus.replay(old, group="nobody")


@core
async def test_a_pattern_chooses_and_the_rest_is_finished(bus: AsyncContextBus, reader: MakesReaders) -> None:
    """Only names that fit are handed out; the others do not pile up."""
    for n, name in enumerate(["order.made", "context.ready", "order.paid", "orders"]):
        await bus.emit(name, {"n": n})
    taken = await reader(bus, "g", "order.*").take(2)
    assert {event.event for event in taken} == {"order.made", "order.paid"}
    await wait_until_async(lambda: _finished(bus, reader))


async def _finished(bus: AsyncContextBus, reader: MakesReaders) -> bool:
    """Whether nothing is left to the group, after it has looked once more on some shard."""
    await bus.emit("order.more", {"n": -1})
    await reader(bus, "g", "order.*").take(1)
    (group,) = (await bus.status()).groups
    return (group.lag, group.pending) == (0, 0)


@core
async def test_a_group_is_retired_when_it_has_finished(bus: AsyncContextBus, reader: MakesReaders) -> None:
    """Unfinished events keep it, unless told; then it holds nothing back, and what it left is gone."""
    await bus.emit("a", {"n": 0}, session_id="s")
    await reader(bus, "g").take(1)
    await bus.emit("a", {"n": 1}, session_id="s")
    with pytest.raises(GroupPending) as caught:
        await bus.retire("g")
    assert caught.value.fields["unfinished"] == 1
    assert (await bus.retire("g", force=True, dry_run=True)).dry_run
    done = await bus.retire("g", force=True)
    assert (done.existed, done.unfinished) == (True, 1)
    assert await bus.groups() == []
    assert not (await bus.retire("g")).existed
    with pytest.raises(GroupNotFound):
        await bus.pending("g")


@core
async def test_a_full_stream_refuses_and_forgets_only_what_is_finished(
    make_bus: MakesBuses, reader: MakesReaders
) -> None:
    """Unhandled events are never dropped to make room; handled ones are, history or not."""
    bus = make_bus(bus_max_entries=5)
    assert len(await bus.history()) == 0
    await bus.emit("a", {"n": 0})
    await reader(bus, "g").take(1)
    for n in range(1, 6):
        await bus.emit("a", {"n": n})
    with pytest.raises(Backlog) as caught:
        await bus.emit("a", {"n": 6})
    assert caught.value.retryable
    await bus.emit("a", {"n": 7}, priority="high")
    assert sorted(_numbers(await reader(bus, "g").take(6))) == [1, 2, 3, 4, 5, 7]
    await bus.emit("a", {"n": 8})
    assert _numbers(await reader(bus, "g").take(1)) == [8]


@core
async def test_a_dry_run_changes_nothing(make_bus: MakesBuses, reader: MakesReaders, look: Any) -> None:
    """Of one call, or of the tenant: the answer comes, the server's data stays what it was."""
    bus = make_bus()
    await bus.emit("a", {"n": 0})
    await reader(bus, "g").take(1)
    before = look.dump()
    assert (await bus.emit("a", {"n": 1}, dry_run=True)).dry_run
    assert (await bus.trim(dry_run=True)).dry_run
    assert (await bus.retire("g", dry_run=True)).dry_run
    assert look.dump() == before


@core
async def test_a_paused_tenant_takes_no_events(bus: AsyncContextBus, face: str) -> None:
    """Emitting and reading are refused, by an error that says to try later; looking works."""
    await bus.emit("a", {"n": 0})
    store: Any = bus.store
    paused = store.set_mode("paused")
    if face == "async":
        await paused
    with pytest.raises(TenantPaused):
        await bus.emit("a", {"n": 1})
    if face == "sync":
        sync: Any = bus
        with pytest.raises(TenantPaused):
            await sync.read("g")
    assert len(await bus.history()) == 1


@core
async def test_bad_arguments_are_refused_before_anything_is_sent(bus: AsyncContextBus, look: Any) -> None:
    """Names, priorities, payloads, delays, groups and ids that are none."""
    calls: list[tuple[type[Exception], Any]] = [
        (InvalidArgument, lambda: bus.emit("no spaces", {})),
        (InvalidArgument, lambda: bus.emit("a", {}, priority="urgent")),
        (InvalidArgument, lambda: bus.emit("a", [1])),
        (InvalidArgument, lambda: bus.emit("a", {}, delay=-1)),
        (InvalidArgument, lambda: bus.emit("a", {}, at=datetime.now())),
        (InvalidArgument, lambda: bus.emit("a", {}, idempotency_key="")),
        (InvalidArgument, lambda: bus.emit("a", {}, correlation_id="x" * 257)),
        (SerializationError, lambda: bus.emit("a", {"f": object()})),
        (PayloadTooLarge, lambda: bus.emit("a", {"f": b"x" * 70_000})),
        (InvalidId, lambda: bus.emit("a", {}, context_id="nope")),
        (InvalidId, lambda: bus.retire("no spaces")),
        (InvalidArgument, lambda: bus.history(count=0)),
        (InvalidArgument, lambda: bus.redrive(["nope"])),
        (InvalidArgument, lambda: bus.dead_letters(count=0)),
    ]
    for error, call in calls:
        with pytest.raises(error):
            await call()
    assert look.dump() == {}


@core
async def test_a_new_event_carries_its_options(bus: AsyncContextBus, reader: MakesReaders) -> None:
    """`emit` takes a `NewEvent` in the place of a name and options."""
    made = await bus.emit(NewEvent("a", {"n": 3}, priority="critical", source="tests", ordering_key="k"))
    (event,) = await reader(bus, "g").take(1)
    assert (event.event_id, event.priority, event.source, event.ordering_key, event.payload) == (
        made.event_id, "critical", "tests", "k", {"n": 3},
    )  # fmt: skip


OPERATIONS = (
    "emit", "history", "replay", "dead_letters", "redrive", "discard", "status", "groups", "pending", "retire", "trim",
)  # fmt: skip


@pytest.mark.parametrize("name", OPERATIONS)
def test_both_buses_say_and_take_the_same(name: str) -> None:
    """A method has its operation's arguments after self, and its docstring, in both."""
    op = getattr(bus_ops, name)
    for cls in (ContextBus, AsyncContextBus):
        method = getattr(cls, name)
        assert inspect.getdoc(method) == inspect.getdoc(op)
        wanted = [(p.name, p.kind, p.default) for p in inspect.signature(op).parameters.values()][1:]
        assert [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()][1:] == wanted
