"""The bus after its keys, its groups or its server's data were lost: workers go on by themselves, and say so.

What belongs here: deleted keys, an emptied server, too many names, too many pending. What does not: dead workers
(`test_bus_workers`), servers that change places (`test_bus_topologies`).
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lukhas_redis.bus import AsyncContextBus, BusEvent, ContextBus
from lukhas_redis.codec import serialize
from lukhas_redis.errors import Backlog
from lukhas_redis.ops import bus as bus_ops
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, TcpProxy, wait_until_async
from tests.faults.bus_inside import group_of, opened, reach, running
from tests.fix_servers import StartsServers

pytestmark = pytest.mark.faults

GROUP = "work"
LOGGER = "lukhas_redis.bus"
# In three seconds an idle worker looks a few times: twice a second at most, once per priority, and waits in between.
MOST_CALLS = 60


class Hands:
    """A handler that notes what it gets and keeps it in hand while `closed`."""

    def __init__(self) -> None:
        self.got: list[int] = []
        self.open = asyncio.Event()
        self.open.set()

    async def handle(self, event: BusEvent) -> None:
        """Note it."""
        await self.open.wait()
        self.got.append(event.payload["n"])


def _calls(server: RunningServer) -> int:
    """Commands that workers use, as often as the server has run them."""
    stats = server.info("commandstats")
    names = ("evalsha", "xreadgroup", "xpending", "xgroup|create", "script|load")
    return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in names)


async def _stays_calm(server: RunningServer) -> None:
    before = _calls(server)
    await asyncio.sleep(3)  # the time that the bound is about
    assert _calls(server) - before <= MOST_CALLS


async def _emit(bus: AsyncContextBus, *numbers: int, **options: Any) -> None:
    for number in numbers:
        await bus.emit("work.todo", {"n": number}, **options)


def _delete(server: RunningServer, tenant: str, *names: str) -> None:
    """Delete keys of the bus; `*` at the end stands for anything."""
    for name in names:
        pattern = f"lukhas:{{{tenant}}}:{name}"
        server.admin.delete(*(server.admin.keys(pattern) or [pattern]))


DAMAGES: dict[str, tuple[str, ...]] = {
    "a stream": ("bus:normal",),
    "the group": ("XGROUP",),
    "the streams": ("bus:critical", "bus:high", "bus:normal", "bus:low", "bus:wake"),
    "the sign": ("bus:wake",),
    "the whole bus": ("bus:*", "group:*"),
}


def _damage(server: RunningServer, tenant: str, name: str) -> None:
    if DAMAGES[name] == ("XGROUP",):
        server.command("XGROUP", "DESTROY", f"lukhas:{{{tenant}}}:bus:normal", GROUP)
    else:
        _delete(server, tenant, *DAMAGES[name])


@pytest.mark.parametrize("damage", DAMAGES)
async def test_waiting_workers_go_on_after_a_loss(
    server: RunningServer, tenant: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """While two workers wait, something is deleted: they find it out, say so, go on, and do not spin."""
    caplog.set_level("INFO", LOGGER)
    hands = Hands()
    async with opened(server.url, tenant) as one, opened(server.url, tenant) as two:
        for bus in (one, two):
            bus.subscribe("work.*", hands.handle, group=GROUP)
        await _emit(one, 0, 1)
        async with running(one, two):
            await reach(one, GROUP, "done", 2)
            await wait_until_async(lambda: _at_work(one, two), what="both have joined")
            caplog.clear()
            _damage(server, tenant, damage)
            await _emit(one, 2, 3, 4)
            await wait_until_async(lambda: _has(hands, 5), timeout=30, what="the new ones are handled")
            await _stays_calm(server)
            await _emit(one, 5)
            await wait_until_async(lambda: _has(hands, 6), timeout=30)
            assert sorted(hands.got) == [0, 1, 2, 3, 4, 5]
            await wait_until_async(lambda: _rested(one), timeout=30)
            status = await group_of(one, GROUP)
            assert status is not None
            if damage != "the sign":
                assert status.counts["healed"] > 0
                assert "was lost" in caplog.text


async def _at_work(*buses: AsyncContextBus) -> bool:
    return all(bus.progress.claims for bus in buses)


async def _has(hands: Hands, count: int) -> bool:
    return len(hands.got) >= count


async def test_events_in_hand_whose_stream_is_deleted_are_counted_as_lost(
    server: RunningServer, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Deleted while they are handled, wait for a retry or for their key: none comes back, each is counted, once."""
    hands = Hands()
    hands.open.clear()
    async with opened(server.url, tenant) as bus:
        bus.subscribe("work.*", hands.handle, group=GROUP, concurrency=4)
        await _emit(bus, 0, 1)
        await _emit(bus, 2, 3, 4, ordering_key="k")
        async with running(bus):
            await reach(bus, GROUP, "delivered", 3)
            await reach(bus, GROUP, "parked", 2)
            caplog.clear()
            _delete(server, tenant, "bus:normal")
            await _emit(bus, 5)
            await reach(bus, GROUP, "lost", 5)
            hands.open.set()
            await wait_until_async(lambda: _holds(hands, 5), timeout=30)
            status = await bus.status()
            assert (status.lost, status.groups[0].pending) == (5, 0)
            assert "lost" in caplog.text
            await _emit(bus, 6, ordering_key="k")
            await wait_until_async(lambda: _holds(hands, 6), timeout=30, what="the key is free")
            assert (await bus.status()).lost == 5


async def test_delayed_events_whose_stream_is_deleted_are_counted_as_lost(server: RunningServer, tenant: str) -> None:
    """Once their time comes it is seen that they are gone; those that were delayed later are delivered."""
    hands = Hands()
    async with opened(server.url, tenant) as bus:
        bus.subscribe("work.*", hands.handle, group=GROUP)
        await _emit(bus, 0, 1, delay=0.05)
        _delete(server, tenant, "bus:later")
        await _emit(bus, 2, delay=0.1)
        async with running(bus):
            await reach(bus, GROUP, "lost", 2)
            await reach(bus, GROUP, "done", 1)
        status = await bus.status()
        assert (hands.got, status.lost, status.delayed) == ([2], 2, 0)


async def _holds(hands: Hands, number: int) -> bool:
    return number in hands.got


async def test_events_in_hand_of_a_destroyed_group_come_again(server: RunningServer, tenant: str) -> None:
    """What was in hand, waited for its key or was not delivered yet when the group vanished is handled after all."""
    hands = Hands()
    hands.open.clear()
    async with opened(server.url, tenant) as bus:
        bus.subscribe("work.*", hands.handle, group=GROUP, concurrency=2)
        await _emit(bus, 0)
        await _emit(bus, 1, 2, 3, ordering_key="k")
        await _emit(bus, 4)
        async with running(bus):
            await reach(bus, GROUP, "delivered", 2)
            server.command("XGROUP", "DESTROY", f"lukhas:{{{tenant}}}:bus:normal", GROUP)
            hands.open.set()
            await wait_until_async(lambda: _all(hands, 5), timeout=30, what="all five are handled")
            assert [number for number in hands.got if number in (1, 2, 3)][-3:] == [1, 2, 3]
            status = await wait_until_async(lambda: _rested(bus), timeout=30)
            assert status
            assert (await bus.status()).lost == 0


async def test_trimming_spares_what_a_lost_group_has_not_finished(server: RunningServer, tenant: str) -> None:
    """Between the loss of a group and its return nothing is forgotten, however full the stream or short the history."""
    hands = Hands()
    async with opened(server.url, tenant, bus_history_seconds=0, bus_max_entries=5) as bus:
        bus.subscribe("work.*", hands.handle, group=GROUP)
        async with running(bus):
            await _emit(bus, 0)
            await reach(bus, GROUP, "done", 1)
        server.command("XGROUP", "DESTROY", f"lukhas:{{{tenant}}}:bus:normal", GROUP)
        await bus.trim()
        await _emit(bus, 1, 2, 3)
        await bus.trim()
        with pytest.raises(Backlog):
            await _emit(bus, 4, 5, 6, 7)
        async with running(bus):
            await reach(bus, GROUP, "done", 5)
        assert hands.got == [0, 1, 2, 3, 4]
        assert (await bus.trim()).events == 5
        # A group that will not come back holds nothing back any more once it is retired.
        server.command("XGROUP", "DESTROY", f"lukhas:{{{tenant}}}:bus:normal", GROUP)
        await _emit(bus, 8)
        assert (await bus.trim()).events == 0
        assert (await bus.retire(GROUP, force=True)).existed
        await wait_until_async(lambda: _forgotten(bus), what="the event is history")


async def _forgotten(bus: AsyncContextBus) -> bool:
    return (await bus.trim()).events == 1


async def _all(hands: Hands, count: int) -> bool:
    return set(hands.got) == set(range(count))


async def _rested(bus: AsyncContextBus) -> bool:
    found = await group_of(bus, GROUP)
    return found is not None and found.pending == 0 and found.lag == 0


async def test_a_group_that_was_to_begin_with_new_events_misses_none_after_a_loss(
    server: RunningServer, tenant: str
) -> None:
    """`start="new"` is about the first time: what is emitted between the loss and its discovery is handled."""
    hands = Hands()
    async with opened(server.url, tenant) as bus:
        bus.subscribe("work.*", hands.handle, group=GROUP, start="new")
        async with running(bus):
            await wait_until_async(lambda: group_of(bus, GROUP))
            pipe = server.admin.pipeline(transaction=True)
            for part in ("bus", "group"):
                for key in server.admin.keys(f"lukhas:{{{tenant}}}:{part}:*"):
                    pipe.delete(key)
            pipe.xadd(f"lukhas:{{{tenant}}}:bus:normal", await _fields(bus, 7))
            pipe.execute()
            await wait_until_async(lambda: _holds(hands, 7), timeout=30)


async def _fields(bus: AsyncContextBus, number: int) -> dict[Any, Any]:
    """An entry as `emit` makes it."""
    await bus.emit("other", {"n": number})
    client = (await bus.history("other"))[0]
    return {"id": client.event_id, "event": "work.todo", "payload": serialize({"n": number}, bus.store.space.limits)}


@pytest.mark.parametrize("wait", ["idle", "busy"])
async def test_a_server_that_comes_back_empty(
    fresh_server: StartsServers, tenant: str, wait: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Level memory does not survive a restart: workers count the reset, say so, and go on with what is new."""
    server, hands = fresh_server(), Hands()
    async with opened(server.url, tenant) as bus:
        bus.subscribe("work.*", hands.handle, group=GROUP)
        await _emit(bus, 0)
        async with running(bus):
            await reach(bus, GROUP, "done", 1)
            if wait == "busy":
                hands.open.clear()
                await _emit(bus, 1)
                await reach(bus, GROUP, "delivered", 2)
            server.kill9()
            server.start()
            await _emit(bus, 2)
            hands.open.set()
            await wait_until_async(lambda: _holds(hands, 2), timeout=30)
            await reach(bus, GROUP, "done", 1)
            await _stays_calm(server)
    assert bus.store.resets == 1
    assert "without the data" in caplog.text


async def test_an_emit_whose_replies_are_lost_is_one_event(server: RunningServer, proxy: TcpProxy, tenant: str) -> None:
    """Executed and never answered, up to three times: with an idempotency key or without, one event, one answer."""
    async with opened(proxy.url_for(server), tenant, call_timeout_seconds=20.0) as bus:
        await _emit(bus, 0)
        for times in (1, 3):
            key, later = f"key-{times}", f"later-{times}"
            every: list[dict[str, Any]] = [{}, {"idempotency_key": key}, {"idempotency_key": later, "delay": 60}]
            for options in every:
                before = await bus.status()
                proxy.drop_replies(times, command="EVALSHA")
                made = await bus.emit("work.todo", {"n": 1}, **options)
                after = await bus.status()
                assert (after.emitted["normal"] + after.delayed) - (before.emitted["normal"] + before.delayed) == 1
                if "idempotency_key" in options:
                    again = await bus.emit("work.todo", {"n": 1}, **options)
                    assert (again.event_id, again.stream_id) == (made.event_id, made.stream_id)
        assert proxy.dropped == 12


async def test_claims_whose_replies_are_lost_lose_no_event(server: RunningServer, proxy: TcpProxy, tenant: str) -> None:
    """What the books gave a worker that never saw it is handled at once, not after its hold, and once."""
    hands, events, losses = Hands(), 200, 12
    async with opened(proxy.url_for(server), tenant, bus_hold_seconds=600.0) as bus:
        bus.subscribe("work.*", hands.handle, group=GROUP, concurrency=2)
        await _emit(bus, *range(events))
        async with running(bus):
            # One reply at a time, to a claim or an acknowledgement, in the middle of the work.
            for number in range(losses):
                await wait_until_async(lambda number=number: _has(hands, number * 8 + 1), timeout=60)  # type: ignore[misc]
                proxy.drop_replies(1, command="EVALSHA")
                await wait_until_async(lambda number=number: _dropped(proxy, number + 1), timeout=60)  # type: ignore[misc]
            await wait_until_async(lambda: _has(hands, events), timeout=60, what="no event waits for its hold")
        assert sorted(hands.got) == list(range(events))


async def _dropped(proxy: TcpProxy, count: int) -> bool:
    return proxy.dropped >= count


async def test_short_lived_workers_leave_no_names_behind(server: RunningServer, tenant: str) -> None:
    """Two hundred workers that took, finished and vanished without leaving are off the books after a trim."""
    async with opened(server.url, tenant, bus_worker_idle_seconds=1) as bus:
        store = bus.store
        await _emit(bus, *range(400))
        await store.run(bus_ops.join(store.space, GROUP, waiting="@w"))
        claims: dict[str, Any] = {"patterns": ("^work.*$",), "max_deliveries": 9, "hold_ms": 60_000}
        for number in range(200):
            name = f"churn-{number}"
            await store.run(bus_ops.listen(store.space, name, waiting="@w", block_ms=1))
            found = await store.run(bus_ops.claim(store.space, GROUP, name, 1, **claims))
            assert found is not None
            # Every fourth one goes on holding what it has.
            if number % 4:
                await store.run(bus_ops.ack(store.space, GROUP, name, found.events))
        await wait_until_async(lambda: _trimmed(bus, server, tenant, 52), timeout=30, what="idle names are gone")
        status = await group_of(bus, GROUP)
        assert status is not None
        assert (status.pending, len(status.workers)) == (50, 50)


async def _trimmed(bus: AsyncContextBus, server: RunningServer, tenant: str, most: int) -> bool:
    await bus.trim()
    names = [server.admin.xinfo_consumers(f"lukhas:{{{tenant}}}:bus:normal", GROUP)]
    names.append(server.admin.xinfo_consumers(f"lukhas:{{{tenant}}}:bus:wake", "@w"))
    return all(len(one) <= most for one in names)


async def test_one_lapsed_event_among_ten_thousand_held_ones_is_found_at_once(
    server: RunningServer, tenant: str
) -> None:
    """A live worker has 10,000 in hand, one of them lapsed: the first claim of another worker has it, and only it."""
    async with opened(server.url, tenant) as bus:
        store, held = bus.store, 10_000
        await store.run(bus_ops.join(store.space, GROUP, waiting="@w"))
        pipe, fields = server.admin.pipeline(transaction=False), await _fields(bus, 0)
        for number in range(held):
            pipe.xadd(f"lukhas:{{{tenant}}}:bus:normal", {**fields, "id": f"event-{number}"})
        pipe.execute()
        claims: dict[str, Any] = {"patterns": ("^work.*$",), "max_deliveries": 9, "hold_ms": 600_000}
        mine: list[BusEvent] = []
        while len(mine) < held:
            found = await store.run(bus_ops.claim(store.space, GROUP, "busy", 1000, **claims))
            assert found is not None
            mine += found.events
        late = mine[7_000]
        await store.run(bus_ops.hold(store.space, GROUP, "busy", [late], hold_ms=1))
        await wait_until_async(lambda: _later(server, tenant, late), what="its hold is over")
        found = await store.run(bus_ops.claim(store.space, GROUP, "other", 100, **claims))
        assert found is not None
        assert [(one.event_id, one.deliveries) for one in found.events] == [(late.event_id, 2)]
        assert await store.run(bus_ops.ack(store.space, GROUP, "busy", [late])) == ["FENCED"]


async def _later(server: RunningServer, tenant: str, event: BusEvent) -> bool:
    until = server.admin.zscore(f"lukhas:{{{tenant}}}:group:{GROUP}:held:normal", event.stream_id)
    seconds, micros = server.admin.time()
    return until is not None and seconds * 1000 + micros / 1000 > until + 2


def test_acknowledging_events_of_two_priorities_with_one_stream_id(server: RunningServer, tenant: str) -> None:
    """Streams of different priorities may use the same id: each event gets its own answer."""
    settings = Settings.load(max_context_throughput_mbps=0)
    with (
        ContextBus.connect(server.url, tenant=tenant, settings=settings) as bus,
        ContextBus.connect(server.url, tenant=tenant, settings=settings) as other,
    ):
        bus.emit("work.todo", {"n": 0})
        bus.read(GROUP)
        (event,) = bus.history()
        raw: Any = server.admin
        entry = raw.xrange(f"lukhas:{{{tenant}}}:bus:normal", event.stream_id, event.stream_id)[0][1]
        twin = "99999999999999-0"
        for stream in ("normal", "low"):
            raw.xadd(f"lukhas:{{{tenant}}}:bus:{stream}", {**entry, b"id": f"{stream}"}, id=twin)
        both = bus.read(GROUP, count=2, hold_seconds=0.001)
        assert [one.stream_id for one in both] == [twin, twin]
        taken = other.read(GROUP, count=1, wait=10)
        assert [one.priority for one in taken] == ["normal"]
        assert bus.ack(GROUP, *both) == {"normal": "FENCED", "low": "DONE"}
        assert bus.ack(GROUP, *reversed(both)) == {"normal": "FENCED", "low": "GONE"}
