"""Dry runs of whole workers: handlers are called, and the server's data stays as it is to the last detail."""

from __future__ import annotations

import pytest

from lukhas_redis.bus import AsyncContextBus, BusEvent, Reject, Retry, Transaction
from lukhas_redis.testing import assert_same
from tests.bus.conftest import Look, MakesBuses, working
from tests.bus.handling import holds


@pytest.mark.parametrize("by", ["argument", "tenant"])
@pytest.mark.parametrize("known", [True, False])
async def test_a_dry_worker_changes_nothing(bus: AsyncContextBus, look: Look, by: str, *, known: bool) -> None:
    """Whatever its handlers want, whether its group is there or not; it sees each event once, by priority."""
    one = await bus.store.preserve("s", {"log": []})
    seen: list[str] = []

    async def handler(event: BusEvent, tx: Transaction) -> None:
        seen.append(event.event)
        tx.append(one.context_id, ["log"], [event.event])
        tx.preserve("s", {"n": 1})
        tx.emit("further")
        if event.event == "rejected":
            raise Reject("no")
        if event.event == "again":
            raise Retry("later", delay=0)
        if event.event == "broken":
            tx.drop("00000000-0000-4000-8000-000000000000")

    bus.subscribe(["[x]*", "*e*", "again"], handler, group="g", concurrency=1)
    if known:
        async with working(bus):
            await holds(lambda: bus.progress.claims > 0, "the group")
    for name, priority in (
        ("rejected", "low"),
        ("again", "normal"),
        ("broken", "high"),
        ("fine", "critical"),
        ("xyz", "low"),
    ):
        await bus.emit(name, priority=priority, ordering_key="k")
    await bus.emit("later", delay=0.001)
    if by == "tenant":
        await bus.store.set_mode("dry_run")
    before = look.dump()
    async with working(bus, dry_run=by == "argument"):
        await holds(lambda: bus.progress.peeked >= 4, "four events looked at")
    assert_same(before, look.dump())
    assert seen == ["fine", "broken", "again", "rejected"]
    assert (bus.progress.handled, bus.progress.dead, bus.progress.retried) == (0, 0, 0)


async def test_a_dry_worker_goes_on_with_what_comes(make: MakesBuses, look: Look) -> None:
    """Events of others, emitted while it runs, are looked at too, and stay for live workers."""
    dry, live = make(), make()
    seen: list[int] = []
    handled: list[int] = []

    async def look_at(event: BusEvent) -> None:
        seen.append(event.payload["n"])

    async def handle(event: BusEvent) -> None:
        handled.append(event.payload["n"])

    dry.subscribe("*", look_at, group="g")
    live.subscribe("*", handle, group="g")
    async with working(dry, dry_run=True):
        for number in range(3):
            await live.emit("a", {"n": number})
        await holds(lambda: len(seen) == 3, "three looked at")
        async with working(live):
            await holds(lambda: len(handled) == 3, "three handled")
    assert (sorted(seen), sorted(handled)) == ([0, 1, 2], [0, 1, 2])


async def test_a_tenant_that_goes_live_is_worked_on(bus: AsyncContextBus) -> None:
    """The mode counts at every look: what was only looked at is then handled, once."""
    calls: list[int] = []

    async def handler(event: BusEvent, tx: Transaction) -> None:
        calls.append(event.deliveries)
        tx.emit("further", delay=3600)

    bus.subscribe("a", handler, group="g")
    await bus.emit("a")
    await bus.store.set_mode("dry_run")
    async with working(bus):
        await holds(lambda: calls == [0], "a look")
        await bus.store.set_mode("live")
        await holds(lambda: bus.progress.handled == 1, "the event handled")
    assert calls == [0, 1]
    assert (await bus.status()).delayed == 1


async def test_nothing_of_a_tenant_nobody_used_is_made(bus: AsyncContextBus, look: Look) -> None:
    """A dry worker of a tenant without a record leaves none, and neither does a dry emit."""

    async def handler(event: BusEvent) -> None: ...

    bus.subscribe("*", handler, group="g")
    async with working(bus, dry_run=True):
        emitted = await bus.emit("a", dry_run=True)
        assert emitted.dry_run
        assert (await bus.status()).groups == ()
    assert look.dump() == {}
