"""Workers: many of them at once, starting and stopping, healing, and what all of it costs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from lukhas_redis.bus import AsyncContextBus, BusEvent, Transaction
from lukhas_redis.errors import AccessDenied, InvalidArgument
from lukhas_redis.ops import bus as bus_ops
from lukhas_redis.testing import wait_until_async
from tests.bus.conftest import Look, MakesBuses, working
from tests.bus.handling import holds, until_finished


async def test_a_key_is_handled_in_order_by_many_workers(make: MakesBuses) -> None:
    """One at a time over all of them, also when handlers fail on the way."""
    seen: dict[str, list[int]] = {}
    inside: Counter[str] = Counter()
    most: Counter[str] = Counter()

    async def handler(event: BusEvent) -> None:
        key = event.ordering_key
        inside[key] += 1
        most[key] = max(most[key], inside[key])
        await asyncio.sleep(0)
        try:
            if event.payload["n"] % 7 == 3 and event.deliveries == 1:
                raise ValueError("first time")
            seen.setdefault(key, []).append(event.payload["n"])
        finally:
            inside[key] -= 1

    buses = [make() for _ in range(3)]
    for bus in buses:
        bus.subscribe("*", handler, group="g", concurrency=5)
    for number in range(60):
        await buses[0].emit("a", {"n": number}, ordering_key=f"k{number % 3}")
    async with working(*buses):
        await until_finished(buses[0], "g", events=60)
    assert seen == {f"k{key}": list(range(key, 60, 3)) for key in range(3)}
    assert set(most.values()) == {1}


async def test_eight_idle_workers_are_not_asking_all_the_time(make: MakesBuses, look: Look) -> None:
    """200 events, one after the other, and 8 workers: far fewer calls than if each looked at each."""
    got: Counter[str] = Counter()

    async def handler(event: BusEvent) -> None:
        got[event.event_id] += 1

    buses = [make() for _ in range(8)]
    for bus in buses:
        bus.subscribe("*", handler, group="g")
    async with working(*buses):
        await holds(lambda: all(bus.progress.claims for bus in buses), "all to have looked")
        before = look.calls("evalsha", "eval", "fcall")
        for number in range(200):
            await buses[0].emit("a", {"n": number})
        await until_finished(buses[0], "g", events=200)
        cost = look.calls("evalsha", "eval", "fcall") - before
    assert set(got.values()) == {1}
    assert len(got) == 200
    # 200 are for emitting, up to 200 for acknowledging, and `until_finished` asks as well.
    assert cost < 1800, cost


async def test_no_more_in_hand_than_there_is_room(bus: AsyncContextBus) -> None:
    """`concurrency` handlers at once, and `prefetch` events beyond that."""
    gate, running, most = asyncio.Event(), 0, 0

    async def handler(event: BusEvent) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    bus.subscribe("*", handler, group="g", concurrency=3, prefetch=2)
    for _ in range(20):
        await bus.emit("a")
    async with working(bus):
        await holds(lambda: running == 3, "three handlers")
        await wait_until_async(lambda: _pending(bus, 5), what="five in hand")
        claims = bus.progress.claims
        await bus.emit("a")
        assert (running, await _pending(bus, 5), bus.progress.claims) == (3, True, claims)
        gate.set()
        await until_finished(bus, "g", events=21)
    assert most == 3


async def _pending(bus: AsyncContextBus, count: int, group: str = "g") -> bool:
    return any(one.name == group and one.pending == count for one in (await bus.status()).groups)


# -- stopping


async def test_stopping_lets_handlers_finish(bus: AsyncContextBus) -> None:
    """Within the grace what is in hand ends; what is not begun stays for others, and the worker leaves the books."""
    gate, begun = asyncio.Event(), asyncio.Event()

    async def handler(event: BusEvent) -> None:
        begun.set()
        await gate.wait()

    bus.subscribe("*", handler, group="g", concurrency=1)
    for _ in range(3):
        await bus.emit("a")
    task = asyncio.create_task(bus.run(grace_seconds=60))
    await begun.wait()
    bus.stop()
    gate.set()
    await task
    (group,) = (await bus.status()).groups
    assert (group.counts["done"], group.pending, group.lag, dict(group.workers)) == (1, 0, 2, {})


@pytest.mark.parametrize("early", [False, True])
async def test_a_quiet_worker_finishes_what_it_has_and_takes_no_more(bus: AsyncContextBus, *, early: bool) -> None:
    """Without a limit, and then waits for its end; quiet before it runs, it takes nothing at all."""
    gate, begun = asyncio.Event(), asyncio.Event()

    async def handler(event: BusEvent) -> None:
        begun.set()
        await gate.wait()

    bus.subscribe("*", handler, group="g", concurrency=1)
    await bus.emit("a")
    if early:
        bus.quiet()
    task = asyncio.create_task(bus.run(grace_seconds=0.01))
    if not early:
        await begun.wait()
        bus.quiet()
    await bus.emit("b")
    gate.set()
    await wait_until_async(lambda: _pending(bus, 0), what="nothing in hand")
    await asyncio.sleep(0.2)
    (group,) = (await bus.status()).groups
    assert (group.counts["done"], group.lag) == ((0, 2) if early else (1, 1))
    assert (bus.in_hand, task.done()) == (0, False)
    bus.stop()
    await task


async def test_stopping_gives_back_what_is_not_done(make: MakesBuses) -> None:
    """After the grace, and without counting: the next worker has the first delivery of it."""
    bus, other = make(), make()
    begun = asyncio.Event()
    deliveries: list[int] = []

    async def stuck(event: BusEvent, tx: Transaction) -> None:
        tx.emit("never")
        begun.set()
        await asyncio.sleep(600)

    async def handler(event: BusEvent) -> None:
        deliveries.append(event.deliveries)

    bus.subscribe("a", stuck, group="g", concurrency=1, prefetch=2, max_deliveries=1)
    other.subscribe("a", handler, group="g", max_deliveries=1)
    for _ in range(3):
        await bus.emit("a")
    task = asyncio.create_task(bus.run(grace_seconds=0.01))
    await begun.wait()
    await wait_until_async(lambda: _pending(bus, 3), what="three in hand")
    bus.stop()
    await task
    async with working(other):
        await until_finished(other, "g", events=3)
    assert deliveries == [1, 1, 1]
    assert (await bus.history("never"), await bus.dead_letters()) == ([], [])


async def test_a_bus_runs_once_and_again(bus: AsyncContextBus) -> None:
    """Not twice at a time; after it has stopped, yes. Cancelling gives back as stopping does."""
    begun = asyncio.Event()
    handled: list[int] = []

    async def handler(event: BusEvent) -> None:
        if not begun.is_set():
            begun.set()
            await asyncio.sleep(600)
        handled.append(event.deliveries)

    bus.subscribe("*", handler, group="g", max_deliveries=1)
    await bus.emit("a")
    task = asyncio.create_task(bus.run())
    await begun.wait()
    with pytest.raises(InvalidArgument, match="already"):
        await bus.run()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with working(bus):
        await until_finished(bus, "g", events=1)
    assert handled == [1]


async def test_workers_of_several_shards_get_everything(make: MakesBuses) -> None:
    """One bus looks after all shards; ordering keys hold on each."""
    bus = make(shards=4)
    got: list[int] = []

    async def handler(event: BusEvent, tx: Transaction) -> None:
        got.append(event.payload["n"])
        if event.payload["n"] < 20:
            tx.emit("a", {"n": event.payload["n"] + 100})

    bus.subscribe("*", handler, group="g")
    for number in range(20):
        await bus.emit("a", {"n": number}, session_id=f"s{number}")
    async with working(bus):
        await until_finished(bus, "g", events=40)
    assert sorted(got) == [*range(20), *range(100, 120)]
    assert sum((await bus.status()).lengths.values()) == 40


async def test_a_fleet_heals_a_deleted_group(bus: AsyncContextBus, look: Look) -> None:
    """Nothing that is emitted afterwards is missed, and it is counted."""
    got: list[int] = []

    async def handler(event: BusEvent) -> None:
        got.append(event.payload["n"])

    bus.subscribe("*", handler, group="g")
    async with working(bus):
        await bus.emit("a", {"n": 1})
        await until_finished(bus, "g", events=1)
        look.client.delete(look.keys.bus("normal"), look.keys.bus("wake"))
        await bus.emit("a", {"n": 2})
        await holds(lambda: got == [1, 2], "the second")
        await until_finished(bus, "g", events=2)
    (group,) = (await bus.status()).groups
    assert group.counts["healed"] >= 1


async def _claimed(bus: AsyncContextBus, worker: str) -> AsyncIterator[BusEvent]:
    store = bus.store
    found = await store.run(
        bus_ops.claim(store.space, "g", worker, 10, patterns=["^.*$"], hold_ms=1, max_deliveries=5), "claim"
    )
    for one in found.events if found else ():
        yield one


async def test_a_dead_workers_events_are_taken_over(bus: AsyncContextBus) -> None:
    """One that claimed and never came back: the next has its events, as second deliveries."""
    deliveries: list[int] = []

    async def handler(event: BusEvent) -> None:
        deliveries.append(event.deliveries)

    for _ in range(3):
        await bus.emit("a")
    await bus.store.run(bus_ops.join(bus.store.space, "g", waiting="@w"))
    assert len([one async for one in _claimed(bus, "dead")]) == 3
    bus.subscribe("*", handler, group="g")
    async with working(bus):
        await until_finished(bus, "g", events=3)
    (group,) = (await bus.status()).groups
    assert (deliveries, group.counts["taken_over"]) == ([2, 2, 2], 3)


async def test_a_right_that_is_missing_ends_the_worker(bus: AsyncContextBus, look: Look, tenant: str) -> None:
    """What only an operator can mend is raised, not tried for ever."""

    async def handler(event: BusEvent) -> None: ...

    await bus.emit("a")
    look.client.acl_setuser(
        tenant, enabled=True, passwords=["+x"], commands=["+@all", "-xgroup"], keys=["*"], channels=["*"]
    )
    where = look.client.get_connection_kwargs()
    try:
        async with AsyncContextBus.connect(
            f"redis://{tenant}:x@{where['host']}:{where['port']}", tenant=tenant
        ) as weak:
            weak.subscribe("*", handler, group="g")
            with pytest.raises(AccessDenied):
                await weak.run()
    finally:
        look.client.acl_deluser(tenant)
