"""Workers that die, freeze or misbehave at one chosen place: each event has its effect once, or a dead letter.

What belongs here: one fault at a time. What does not: many at random (`test_bus_effects`), lost data
(`test_bus_losses`).
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from lukhas_redis.bus import AsyncContextBus, BusEvent, Reject, Transaction
from lukhas_redis.errors import DeliveryLost
from lukhas_redis.ops import append
from lukhas_redis.ops import bus as bus_ops
from lukhas_redis.scripts import load
from lukhas_redis.testing import RunningServer, TcpProxy, wait_until
from tests.faults.bus_fleet import Fleet
from tests.faults.bus_inside import opened, reach, running
from tests.faults.bus_worker import ECHO, ECHOED, WORK

pytestmark = pytest.mark.faults

LOG: dict[str, list[int]] = {"seen": []}


def _todo(fleet: Fleet, number: int, **payload: object) -> str:
    part = fleet.parts[0].name
    emitted = fleet.bus.emit("work.todo", {"part": part, "n": number, **payload}, session_id=part)
    return emitted.event_id


# -- processes ---------------------------------------------------------------------------------------------------


def test_killed_between_read_and_effect(server: RunningServer, tenant: str, tmp_path: Path) -> None:
    """A worker dies with an event in hand: another one takes it over and has the effect."""
    with Fleet(server.url, tenant, tmp_path) as fleet:
        fleet.prepare(1, 0)
        _todo(fleet, 0)
        first = fleet.start(play="wait")
        fleet.wait_note("reached")
        first.end(9)
        assert fleet.seen() == []
        fleet.start()
        wait_until(lambda: fleet.count("done") == 1, timeout=30)
        assert fleet.seen() == [0]
        assert fleet.count("taken_over") == 1


def test_killed_between_effect_and_answer(server: RunningServer, proxy: TcpProxy, tenant: str, tmp_path: Path) -> None:
    """A worker dies before it hears that its commit was made: the event is finished, nobody gets it again."""
    # A server that has to be sent the script first would not hear of the commit.
    server.admin.script_load(load("commit").text)
    with Fleet(server.url, tenant, tmp_path) as fleet:
        fleet.prepare(1, 0)
        _todo(fleet, 0)
        first = fleet.start(play="tell", url=proxy.url_for(server), hold_seconds=30.0)
        fleet.wait_note("reached")
        proxy.delay(120_000)
        fleet.notes.leave("go")
        wait_until(lambda: fleet.bus.history("echo.*"), timeout=30, what="the commit is made")
        first.end(9)
        _todo(fleet, 5)
        fleet.start(play="tell")
        wait_until(lambda: fleet.count("done", ECHO) == 2, timeout=30)
        assert fleet.store.restore(fleet.parts[0].log).data[ECHOED] == [0, 5]
        assert (fleet.count("delivered"), fleet.count("taken_over")) == (2, 0)


def test_killed_between_an_effect_of_its_own_and_the_acknowledgement(
    server: RunningServer, tenant: str, tmp_path: Path
) -> None:
    """A handler without a transaction runs again after a crash: at least once; its request id makes it one effect."""
    with Fleet(server.url, tenant, tmp_path) as fleet:
        fleet.prepare(1, 0)
        _todo(fleet, 0)
        first = fleet.start(play="plain")
        fleet.wait_note("reached")
        first.end(9)
        assert fleet.seen() == [0]
        fleet.notes.leave("go")
        fleet.start(play="plain")
        wait_until(lambda: fleet.count("done") == 1, timeout=30)
        assert fleet.seen() == [0]
        assert fleet.count("taken_over") == 1


@pytest.mark.parametrize("other", ["has it in hand", "has finished it"])
@pytest.mark.parametrize("how", ["frozen", "blocked"])
def test_a_worker_that_comes_back_too_late(
    server: RunningServer, tenant: str, tmp_path: Path, other: str, how: str
) -> None:
    """Frozen, or its event loop blocked, for longer than its hold: what it does then is written by nobody."""
    with Fleet(server.url, tenant, tmp_path) as fleet:
        fleet.prepare(1, 0)
        event_id = _todo(fleet, 0)
        late = fleet.start(play="wait" if how == "frozen" else "block")
        fleet.wait_note("reached")
        if how == "frozen":
            late.pause()
        taken = fleet.bus.read(WORK, pattern="work.*", wait=30, hold_seconds=60)
        assert [(one.event_id, one.deliveries) for one in taken] == [(event_id, 2)]
        if other == "has finished it":
            assert fleet.bus.ack(WORK, *taken) == {event_id: "DONE"}
        fleet.notes.leave("go")
        late.resume()
        _todo(fleet, 1)
        wait_until(lambda: fleet.seen() == [1], timeout=30, what="the late one works on")
        if other == "has it in hand":
            wait_until(lambda: fleet.logs("taken over by another worker"), timeout=30, what="the late one says so")
            assert fleet.bus.ack(WORK, *taken) == {event_id: "DONE"}
        late.end(15)
        assert fleet.seen() == [1]
        assert fleet.count("done") == 2


def test_an_event_that_kills_its_worker_is_given_up(server: RunningServer, tenant: str, tmp_path: Path) -> None:
    """The process ends in the handler, each time: after max_deliveries it is a dead letter, and redriving works."""
    with Fleet(server.url, tenant, tmp_path) as fleet:
        fleet.prepare(1, 0)
        event_id = _todo(fleet, 0, poison=True)
        for number in range(1, 6):
            _todo(fleet, number)

        def keep_running() -> bool:
            if not any(process.alive for process in fleet.processes):
                fleet.start(play="die", max_deliveries=2, concurrency=1, hold_seconds=0.5)
            return bool(fleet.bus.dead_letters()) and fleet.count("done") == 5

        wait_until(keep_running, timeout=60, what="the poison is given up and all others are done")
        assert len(fleet.processes) == 3
        assert fleet.seen() == [1, 2, 3, 4, 5]
        (letter,) = fleet.bus.dead_letters(group=WORK)
        assert (letter.event_id, letter.name, letter.reason, letter.deliveries) == (
            event_id, "work.todo", "deliveries", 2,
        )  # fmt: skip
        assert str(fleet.processes[1].pid) in letter.consumer
        assert letter.event is not None
        assert letter.event.payload["poison"]
        fleet.processes[-1].end(15)
        fleet.start(play="apply")
        assert fleet.bus.redrive([letter]).letter_ids == (letter.letter_id,)
        wait_until(lambda: fleet.count("done") == 6, timeout=30)
        assert fleet.seen() == [1, 2, 3, 4, 5, 0]
        assert fleet.bus.dead_letters() == []


# -- handlers ----------------------------------------------------------------------------------------------------


async def _log(bus: AsyncContextBus) -> str:
    return (await bus.store.preserve("s", LOG)).context_id


async def _seen(bus: AsyncContextBus, context_id: str) -> list[int]:
    return list((await bus.store.restore(context_id)).data["seen"])


@pytest.mark.parametrize("fault", ["hangs", "raises", "cancels itself"])
async def test_a_handler_that_fails_is_called_again_and_then_given_up(
    server: RunningServer, tenant: str, fault: str
) -> None:
    """Hanging, raising or cancelled from inside: a counted delivery each time, nothing written, then a dead letter."""
    calls: list[int] = []
    async with opened(server.url, tenant) as bus:
        log = await _log(bus)

        async def handle(event: BusEvent, tx: Transaction) -> None:
            calls.append(event.deliveries)
            tx.append(log, "/seen", [event.payload["n"]])
            if event.payload["n"] == 0:
                if fault == "hangs":
                    await asyncio.Event().wait()
                if fault == "raises":
                    raise RuntimeError("no luck")
                raise asyncio.CancelledError

        bus.subscribe("work.*", handle, group=WORK, timeout=0.1)
        bad = await bus.emit("work.todo", {"n": 0}, ordering_key="k")
        for number in (1, 2):
            await bus.emit("work.todo", {"n": number}, ordering_key="k")
        async with running(bus):
            await reach(bus, WORK, "done", 2)
            assert calls == [1, 2, 3, 1, 1]
            assert await _seen(bus, log) == [1, 2]
            (letter,) = await bus.dead_letters()
            expected = {"hangs": ("timeout", ""), "raises": ("error", "no luck"), "cancels itself": ("error", "Cancel")}
            assert (letter.event_id, letter.deliveries) == (bad.event_id, 3)
            assert letter.reason == expected[fault][0]
            assert expected[fault][1] in letter.error
            assert "handle" in letter.handler


async def test_poison_is_a_dead_letter_with_its_origin_and_is_redriven(server: RunningServer, tenant: str) -> None:
    """A dead letter tells which event it is, who emitted it, and which handler failed how; redriven, it comes again."""
    healthy = asyncio.Event()
    got: list[BusEvent] = []
    async with opened(server.url, tenant) as bus:

        async def handle(event: BusEvent) -> None:
            if not healthy.is_set():
                raise Reject("never") if event.payload["n"] else ValueError("not today")
            got.append(event)

        bus.subscribe("work.*", handle, group=WORK)
        first = await bus.emit(
            "work.todo", {"n": 0}, source="tests", correlation_id="c", causation_id="d", ordering_key="k"
        )
        second = await bus.emit("work.todo", {"n": 1}, priority="high")
        async with running(bus):
            await reach(bus, WORK, "dead", 2)
            letters = {one.event_id: one for one in await bus.dead_letters()}
            assert set(letters) == {first.event_id, second.event_id}
            one = letters[first.event_id]
            assert (one.group, one.reason, one.deliveries, one.priority) == (WORK, "error", 3, "normal")
            assert "ValueError: not today" in one.error
            assert one.event is not None
            assert (one.event.source, one.event.correlation_id, one.event.causation_id, one.event.ordering_key) == (
                "tests", "c", "d", "k",
            )  # fmt: skip
            assert one.event.stream_id == first.stream_id
            assert (letters[second.event_id].reason, letters[second.event_id].deliveries) == ("rejected", 1)
            healthy.set()
            assert len((await bus.redrive(list(letters.values()))).letter_ids) == 2
            await reach(bus, WORK, "done", 2)
        assert {event.event_id for event in got} == set(letters)
        assert {event.deliveries for event in got} == {1}
        assert await bus.dead_letters() == []


@pytest.mark.parametrize("how", ["stopped", "cancelled"])
async def test_a_worker_that_ends_gives_back_what_it_has_not_handled(
    server: RunningServer, tenant: str, how: str
) -> None:
    """In its handler, or still waiting for a slot: the next worker has it at once, and no delivery was counted."""
    got: list[tuple[int, int]] = []
    gate = asyncio.Event()

    async def handle(event: BusEvent) -> None:
        await gate.wait()
        got.append((event.payload["n"], event.deliveries))

    async with opened(server.url, tenant, bus_hold_seconds=600.0) as one, opened(server.url, tenant) as two:
        one.subscribe("work.*", handle, group=WORK, concurrency=2, prefetch=3)
        two.subscribe("work.*", handle, group=WORK)
        for number in range(8):
            await one.emit("work.todo", {"n": number}, ordering_key="k" if number > 5 else "")
        async with running(one, grace_seconds=0.0) as tasks:
            await reach(one, WORK, "delivered", 5)
            if how == "cancelled":
                tasks[0].cancel()
                await asyncio.wait(tasks)
                tasks.clear()
        status = (await two.status()).groups[0]
        assert set(status.workers) <= {"@waiting"}
        gate.set()
        async with running(two):
            await reach(two, WORK, "done", 8)
        assert sorted(got) == [(number, 1) for number in range(8)]


async def test_a_handler_that_blocks_its_event_loop_every_time_gets_on(server: RunningServer, tenant: str) -> None:
    """Alone, and without a sign of life for longer than its hold: it loses no event, and each effect is there once."""
    async with opened(server.url, tenant, bus_hold_seconds=0.2, bus_max_deliveries=100) as bus:
        log = await _log(bus)

        async def handle(event: BusEvent, tx: Transaction) -> None:
            time.sleep(0.3)  # noqa: ASYNC251 - the fault
            tx.append(log, "/seen", [event.payload["n"]])

        bus.subscribe("work.*", handle, group=WORK, concurrency=4)
        for number in range(6):
            await bus.emit("work.todo", {"n": number})
        async with running(bus):
            await reach(bus, WORK, "done", 6)
            assert sorted(await _seen(bus, log)) == list(range(6))


@pytest.mark.parametrize("finished", [False, True])
async def test_a_stale_delivery_commits_nothing(server: RunningServer, tenant: str, finished: bool) -> None:
    """The commit of a worker whose event another one has, or has finished, raises DeliveryLost and writes nothing."""
    claims: dict[str, Any] = {"patterns": ("^work.*$",), "max_deliveries": 9}
    async with opened(server.url, tenant) as bus:
        log, store = await _log(bus), bus.store
        await bus.emit("work.todo", {"n": 0})
        await store.run(bus_ops.join(store.space, WORK, waiting="@w"))
        mine = await store.run(bus_ops.claim(store.space, WORK, "slow", 1, hold_ms=1, **claims))
        theirs = None
        while theirs is None or not theirs.events:
            theirs = await store.run(bus_ops.claim(store.space, WORK, "quick", 1, hold_ms=60_000, **claims))
        assert mine is not None
        if finished:
            await store.run(bus_ops.ack(store.space, WORK, "quick", theirs.events))
        change = append(store.space, log, "/seen", [0])
        with pytest.raises(DeliveryLost) as caught:
            await store.run(bus_ops.commit(store.space, [change], delivery=mine.events[0], group=WORK, consumer="slow"))
        assert caught.value.fields["state"] == ("GONE" if finished else "FENCED")
        assert await _seen(bus, log) == []
        assert (await store.restore(log)).version == 1
