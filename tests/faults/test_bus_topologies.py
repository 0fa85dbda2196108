"""The bus while its cluster or Sentinel group changes: workers go on by themselves, no event is lost or done twice.

What belongs here: failovers and slots on the move under workers and emitters. What does not: single servers
(`test_bus_losses`), the store alone (`test_store_topologies`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from lukhas_redis.bus import AsyncContextBus, BusEvent, Transaction
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.testing import Cluster, RunningServer, SentinelGroup, wait_until, wait_until_async
from lukhas_redis.transport.routes import slot_of
from tests.faults.bus_inside import opened, reach, running
from tests.fix_farm import Topology

pytestmark = pytest.mark.faults

GROUP = "work"
KEYS = 4


class Traffic:
    """Events of a few ordering keys, and their effects in one context."""

    def __init__(self, bus: AsyncContextBus) -> None:
        self.bus = bus
        self.log = ""
        self.emitted = 0

    async def handle(self, event: BusEvent, tx: Transaction) -> None:
        """Note the event."""
        tx.append(self.log, "/seen", [[event.payload["k"], event.payload["n"]]])

    async def emit(self, count: int) -> None:
        """Emit so many events, each until it is known to be there."""
        numbers = range(self.emitted, self.emitted + count)
        self.emitted += count
        await asyncio.gather(*(self._emit_key(k, [n for n in numbers if n % KEYS == k]) for k in range(KEYS)))

    async def _emit_key(self, k: int, numbers: list[int]) -> None:
        for n in numbers:
            while True:
                try:
                    await self.bus.emit(
                        "work.todo", {"k": k, "n": n}, context_id=self.log, ordering_key=f"k{k}", idempotency_key=f"{n}"
                    )
                    break
                except LukhasRedisError as error:
                    if not error.retryable:
                        raise

    async def check(self) -> None:
        """Each event has had its effect once, those of one key in order."""
        await wait_until_async(self._done, timeout=60, what="every event is finished")
        seen = (await self.bus.store.restore(self.log)).data["seen"]
        for k in range(KEYS):
            assert [n for key, n in seen if key == k] == list(range(k, self.emitted, KEYS))
        status = await self.bus.status()
        assert (status.dead, status.lost, sum(status.emitted.values())) == (0, 0, self.emitted)

    async def _done(self) -> bool:
        groups = (await self.bus.status()).groups
        return bool(groups) and groups[0].counts["done"] >= self.emitted and groups[0].pending == 0


@asynccontextmanager
async def _busy(url: str, tenant: str, shards: int = 1) -> AsyncGenerator[Traffic]:
    """Two workers and one that emits, each with connections of its own."""
    settings = {"call_timeout_seconds": 30.0, "shards": shards, "bus_max_deliveries": 100}
    async with (
        opened(url, tenant, **settings) as one,
        opened(url, tenant, **settings) as two,
        opened(url, tenant, **settings) as emitting,
    ):
        traffic = Traffic(emitting)
        traffic.log = (await emitting.store.preserve("s", {"seen": []})).context_id
        for bus in (one, two):
            bus.subscribe("work.*", traffic.handle, group=GROUP)
        async with running(one, two):
            await traffic.emit(40)
            await reach(emitting, GROUP, "done", 40)
            yield traffic


def _in_step(primary: RunningServer) -> bool:
    """Whether every replica has all that the primary has: what it lacks may be lost at level memory."""
    found = primary.info("replication")
    behind = [value["lag"] for name, value in found.items() if name.startswith("slave") and isinstance(value, dict)]
    offsets = [value["offset"] for name, value in found.items() if name.startswith("slave") and isinstance(value, dict)]
    return bool(behind) and all(offset == found["master_repl_offset"] for offset in offsets)


async def test_a_sentinel_failover_while_workers_wait(sentinels: SentinelGroup, tenant: str) -> None:
    """The primary dies under two waiting workers: they find the new one, and what is emitted meanwhile is handled."""
    async with _busy(sentinels.url, tenant) as traffic:
        await asyncio.to_thread(lambda: wait_until(lambda: _in_step(sentinels.primary()), timeout=30))
        old = await asyncio.to_thread(sentinels.kill_primary)
        await traffic.emit(80)
        await asyncio.to_thread(sentinels.wait_failover, old)
        await traffic.emit(40)
        await traffic.check()


async def test_a_cluster_failover_while_workers_wait(cluster: Cluster, tenant: str) -> None:
    """The owner of the tenant's slot dies: as with Sentinel."""
    async with _busy(cluster.url, tenant) as traffic:
        slot = slot_of(tenant)
        await asyncio.to_thread(lambda: wait_until(lambda: _in_step(cluster.node_for_slot(slot)), timeout=30))
        old = await asyncio.to_thread(cluster.kill_primary, slot)
        await traffic.emit(80)
        await asyncio.to_thread(cluster.wait_failover, slot, old)
        await traffic.emit(40)
        await traffic.check()


async def test_a_slot_moves_while_workers_work(cluster: Cluster, tenant: str) -> None:
    """The tenant's slot goes to another node and back, with keys on both in between, under load."""
    async with _busy(cluster.url, tenant) as traffic:
        slot = slot_of(tenant)
        for _ in range(2):
            moving = asyncio.create_task(asyncio.to_thread(cluster.move_slot, slot))
            await traffic.emit(60)
            await moving
        await asyncio.to_thread(cluster.begin_migration, slot)
        emitting = asyncio.create_task(traffic.emit(40))
        await asyncio.sleep(0)
        await asyncio.to_thread(cluster.finish_migration, slot)
        await emitting
        await traffic.check()


async def test_one_of_several_shards_moves(cluster: Cluster, tenant: str) -> None:
    """A tenant with four shards: the one whose slot moves and those that stay are handled alike."""
    async with _busy(cluster.url, tenant, shards=4) as traffic:
        tag = next(keys.tag for keys in traffic.bus.store.space.all_shards() if _has_log(traffic, keys.tag))
        moving = asyncio.create_task(asyncio.to_thread(cluster.move_slot, slot_of(tag)))
        await traffic.emit(60)
        await moving
        await traffic.check()


def _has_log(traffic: Traffic, tag: str) -> bool:
    return traffic.bus.store.space.shard_for(traffic.log).tag == tag


async def test_events_survive_the_loss_of_connections(topology: Topology, tenant: str) -> None:
    """On every topology: all connections are cut again and again, and nothing is lost, doubled or out of order."""
    async with _busy(topology.url, tenant) as traffic:
        stop = asyncio.Event()
        cutting = asyncio.create_task(_cut_until(stop, lambda: asyncio.to_thread(_cut, topology)))
        for _ in range(5):
            await traffic.emit(40)
        stop.set()
        assert await cutting > 0
        await traffic.check()


async def _cut_until(stop: asyncio.Event, cut: Callable[[], Awaitable[None]]) -> int:
    times = 0
    while not stop.is_set():
        await cut()
        times += 1
        await asyncio.sleep(0.05)  # the pace of the fault, nothing waits for it
    return times


def _cut(topology: Topology) -> None:
    handle = topology.handle
    if isinstance(handle, Cluster):
        servers = handle.primaries()
    elif isinstance(handle, SentinelGroup):
        servers = [handle.primary()]
    else:
        with topology.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return
    for server in servers:
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
