"""A context that grows while its slot moves or its primary dies: what was acknowledged stays, what is held stays true.

What belongs here: append, patch, fold and the near cache through a reshard and a failover. What does not: contexts
written whole (`test_store_topologies`), one order of all answers (`test_store_linear`).
Invariant: every write adds one item or one beat, so a context at version v has v - 1 of them, whoever reads it when.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from lukhas_redis import AsyncContextStore, ContextStore
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.models import Context
from lukhas_redis.settings import Settings
from lukhas_redis.testing import (
    Cluster,
    RunningServer,
    SentinelGroup,
    ServerBinary,
    start_cluster,
    start_sentinels,
    wait_until,
)
from lukhas_redis.transport.routes import slot_of

pytestmark = pytest.mark.faults

T = TypeVar("T")
Reads = Callable[[], Awaitable[Context]]
LOCAL = {"appendonly": "yes", "appendfsync": "always"}
SHARES = (0.0, 0.5, 1.0, 0.0)
WRITERS = ("a", "b", "c")


def settings(near: bool) -> Settings:
    """A store that folds often and never gives up soon."""
    return Settings.load(
        near_cache="on" if near else "off",
        max_segments=8,
        call_timeout_seconds=30,
        wait_timeout_ms=500,
        max_context_throughput_mbps=0,
    )


@dataclass
class Growth:
    """One context, its writers, its readers, and what the writers were told.

    `items`: how many of each writer's are acknowledged; `order`: each with the version it made. `insists`: a call that
    may be repeated is; otherwise an error is a failure. `durability`: of every write.
    """

    cid: str
    durability: str | None = None
    insists: bool = False
    items: Counter[str] = field(default_factory=Counter)
    beats: int = 0
    order: list[tuple[int, str]] = field(default_factory=list)
    hits: int = 0
    reads: int = 0
    has_ended: bool = False

    async def append(self, store: AsyncContextStore, name: str) -> None:
        """One item after the other, each acknowledged before the next."""
        while not self.has_ended:
            item = f"{name} {self.items[name] + 1}"
            options: dict[str, Any] = {"request_id": item.replace(" ", "-"), "durability": self.durability}
            done = await self._told(lambda i=item, o=options: store.append(self.cid, ("log",), [i], **o))  # type: ignore[misc]
            self.items[name] += 1
            self.order.append((done.version, item))

    async def patch(self, store: AsyncContextStore) -> None:
        """Count beats."""
        while not self.has_ended:
            beat = self.beats + 1
            options: dict[str, Any] = {"request_id": f"beat-{beat}", "durability": self.durability}
            done = await self._told(lambda b=beat, o=options: store.patch(self.cid, {"beat": b}, **o))  # type: ignore[misc]
            self.beats = beat
            self.order.append((done.version, f"beat {beat}"))
            await asyncio.sleep(0.02)

    async def read(self, reads: Reads, *, only_grows: bool) -> None:
        """Every read has at least what was acknowledged before it; `only_grows`: and begins with the one before."""
        last: Context | None = None
        while not self.has_ended:
            found = await self._checked(reads)
            if only_grows and last is not None:
                was: list[str] = last.data["log"]
                assert (found.data["log"][: len(was)], found.version >= last.version) == (was, True)
            # Held while the next one is made: a view that was given must not grow with it.
            assert last is None or last.version == _writes(last) + 1
            last = found

    async def _checked(self, reads: Reads) -> Context:
        items, beats = Counter(self.items), self.beats
        found = await self._told(reads)
        assert found.version == _writes(found) + 1
        counted = _numbered(found.data["log"])
        assert counted >= items
        assert found.data["beat"] >= beats
        self.reads += 1
        self.hits += found.cache_hit
        return found

    async def _told(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            await asyncio.sleep(0.005)
            try:
                return await call()
            except LukhasRedisError as error:
                if not (self.insists and error.retryable):
                    raise

    def goes_on(self) -> None:
        """Wait, on a thread beside the loop, until each writer has been told of ten more writes."""
        before = Counter(self.items)
        wait_until(
            lambda: self.has_ended or all(self.items[name] >= before[name] + 10 for name in WRITERS),
            timeout=60,
            what="ten writes each",
        )

    async def settled(self, *stores: AsyncContextStore) -> None:
        """Nothing is lost or doubled, all is in the order of the versions, and every store says the same."""
        for store in stores:
            found = await store.restore(self.cid)
            log = found.data["log"]
            assert _numbered(log) == self.items
            assert found.data["beat"] == self.beats
            assert found.version == 1 + len(log) + self.beats == 1 + len(self.order)
            versions = [version for version, _ in sorted(self.order)]
            assert versions == list(range(2, found.version + 1))
            assert [item for _, item in sorted(self.order) if not item.startswith("beat")] == list(log)
        assert (await stores[0].check()).sound


def _writes(found: Context) -> int:
    return len(found.data["log"]) + int(found.data["beat"])


def _numbered(log: list[str]) -> Counter[str]:
    """How many items of each writer are there; its numbers must follow each other."""
    counted: Counter[str] = Counter()
    for item in log:
        name, number = item.split(" ")
        counted[name] += 1
        assert int(number) == counted[name], f"{item} is number {counted[name]} of {name}"
    return counted


async def _grow(
    url: str, tenant: str, growth: Growth, faults: Callable[[], object], *, only_grows: bool
) -> dict[str, int]:
    """Writers and readers of every sort while the faults happen; the totals afterwards."""

    def connect(near: bool) -> AsyncContextStore:
        return AsyncContextStore.connect(url, tenant=tenant, settings=settings(near))

    async with AsyncExitStack() as open_stores:
        one, two, far = [await open_stores.enter_async_context(connect(near)) for near in (True, True, False)]
        blocking = open_stores.enter_context(ContextStore.connect(url, tenant=tenant, settings=settings(True)))
        await one.preserve("s", {"log": [], "beat": 0}, context_id=growth.cid, durability=growth.durability)
        await _have_a_tomb(one)

        def shared(store: AsyncContextStore) -> Reads:
            return lambda: store.restore(growth.cid, shared=True, touch=False)

        def beside() -> Awaitable[Context]:
            return asyncio.to_thread(blocking.restore, growth.cid, shared=True, touch=False)

        readers = [shared(one), shared(two), shared(far), beside]
        async with asyncio.TaskGroup() as running:
            for name, store in zip(WRITERS, (one, two, two), strict=True):
                running.create_task(growth.append(store, name))
            running.create_task(growth.patch(far))
            for reads in readers:
                running.create_task(growth.read(reads, only_grows=only_grows))
            try:
                await asyncio.to_thread(faults)
            finally:
                growth.has_ended = True
        await growth.settled(one, two, far)
        return dict((await one.stats()).totals)


async def _have_a_tomb(store: AsyncContextStore) -> None:
    """So that every key a read declares is there: in a slot on the move the others are answered with TRYAGAIN."""
    await store.drop((await store.preserve("gone", {})).context_id)


async def _new_id(url: str, tenant: str) -> str:
    """An id of the right form; a dry run mints it and changes nothing."""
    async with AsyncContextStore.connect(url, tenant=tenant) as store:
        return (await store.preserve("s", {}, dry_run=True)).context_id


async def test_a_context_grows_while_its_slot_moves(cluster: Cluster, tenant: str) -> None:
    """Four moves, split at the start, half way and at the end: no error, nothing lost or doubled, no older read."""
    slot = slot_of(tenant)
    growth = Growth(await _new_id(cluster.url, tenant))
    owners: set[int] = set()

    def reshard() -> None:
        growth.goes_on()
        for share in SHARES:
            cluster.begin_migration(slot, share=share)
            time.sleep(0.2)
            owners.add(cluster.finish_migration(slot).port)
            growth.goes_on()

        for share in SHARES:
            time.sleep(0.4)
            cluster.begin_migration(slot, share=share)
            time.sleep(0.2)
            owners.add(cluster.finish_migration(slot).port)
        time.sleep(0.4)

    growth = Growth(await _new_id(cluster.url, tenant))
    totals = await _grow(cluster.url, tenant, growth, reshard, only_grows=True)
    assert len(owners) > 1
    assert growth.hits > 20
    assert totals["folded"] > 0


# -- failovers -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """The primary that has a tenant and the one replica it has, under Sentinel or in a cluster."""

    group: SentinelGroup | Cluster
    tenant: str

    @property
    def url(self) -> str:
        """What a store connects to."""
        return self.group.url

    def primary(self) -> RunningServer:
        """Who has the tenant now."""
        if isinstance(self.group, Cluster):
            return self.group.node_for_slot(slot_of(self.tenant))
        return self.group.primary()

    def replica(self) -> RunningServer:
        """Who follows it."""
        if isinstance(self.group, Cluster):
            return self.group.replicas_of(self.primary())[0]
        return self.group.replicas()[0]

    def fail_over(self) -> None:
        """Kill the primary and wait for the other to take its place."""
        old = self.primary()
        old.kill9()
        if isinstance(self.group, Cluster):
            self.group.wait_failover(slot_of(self.tenant), old)
        else:
            self.group.wait_failover(old)

    def cut(self) -> RunningServer:
        """Freeze the replica with no connection open, so that no later write can be on its way to it; returns it."""
        replica = self.replica()
        replica.pause()
        self.primary().command("CLIENT", "KILL", "TYPE", "replica")
        return replica


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def group(request: pytest.FixtureRequest, binary: ServerBinary) -> Generator[SentinelGroup | Cluster]:
    """Every primary has one replica, both keep what they confirm: whoever is promoted has confirmed."""
    start: Any = start_cluster if request.param == "cluster" else start_sentinels
    with start(binary, replicas=1, config=LOCAL) as started:
        yield started


@pytest.fixture
def pair(group: SentinelGroup | Cluster, tenant: str) -> Generator[Pair]:
    """The servers of this test's tenant, whole before and after it."""
    yield Pair(group, tenant)
    group.heal()


@pytest.mark.topology
@pytest.mark.xdist_group("growth-failover")
async def test_what_was_replicated_is_kept_in_order(pair: Pair, tenant: str) -> None:
    """Writers at level replicated and readers through a kill -9, a promotion and the return of the old primary."""

    growth = Growth(await _new_id(pair.url, tenant), durability="replicated", insists=True)

    def fault() -> None:
        growth.goes_on()
        pair.fail_over()
        time.sleep(0.5)
        pair.group.heal()
        growth.goes_on()

    totals = await _grow(pair.url, tenant, growth, fault, only_grows=False)
    assert growth.hits > 20
    assert totals["folded"] > 0


@pytest.mark.topology
@pytest.mark.xdist_group("growth-failover")
async def test_what_the_new_primary_never_had_is_held_by_nobody(pair: Pair, tenant: str) -> None:
    """Held content that died with its primary is never served again, nor mixed with what has its place and number now.

    The same context id, version and sequence number name other content after the failover: another item in the list,
    and another incarnation. One reader looks after each step, one only at the end.
    """
    async with AsyncExitStack() as open_stores:
        writer, early, late = [
            await open_stores.enter_async_context(
                AsyncContextStore.connect(pair.url, tenant=tenant, settings=settings(True))
            )
            for _ in range(3)
        ]
        grown = (await writer.preserve("s", {"log": ["kept"]}, durability="replicated")).context_id
        first = await writer.preserve("s", {"made": 1}, durability="replicated")
        made = first.context_id

        async def sees(store: AsyncContextStore, log: list[str], made_as: int, incarnation: str) -> None:
            for shared in (True, False):
                found = await store.restore(grown, shared=shared, touch=False)
                assert (found.data, found.version) == ({"log": log}, len(log))
                again = await store.restore(made, shared=shared, touch=False)
                assert (again.data, again.metadata.incarnation) == ({"made": made_as}, incarnation)

        replica = pair.cut()
        await writer.append(grown, ("log",), ["lost"])
        await writer.drop(made)
        second = await writer.preserve("s", {"made": 2}, context_id=made)
        for store in (writer, early, late):
            await sees(store, ["kept", "lost"], 2, second.incarnation)
        pair.primary().kill9()
        replica.resume()
        await asyncio.to_thread(_wait_promoted, pair, replica)

        await sees(early, ["kept"], 1, first.incarnation)
        assert (await writer.append(grown, ("log",), ["other"])).version == 2
        await writer.drop(made)
        third = await writer.preserve("s", {"made": 3}, context_id=made)
        assert len({first.incarnation, second.incarnation, third.incarnation}) == 3
        assert (third.version, third.incarnation) == (second.version, (await early.metadata(made)).incarnation)
        await sees(early, ["kept", "other"], 3, third.incarnation)
        assert (await writer.append(grown, ("log",), ["more"])).version == 3
        for store in (late, early, writer):
            await sees(store, ["kept", "other", "more"], 3, third.incarnation)
        assert (await writer.check()).sound


def _wait_promoted(pair: Pair, replica: RunningServer) -> None:
    old = next(server for server in pair.group.servers if not server.alive)
    if isinstance(pair.group, Cluster):
        new = pair.group.wait_failover(slot_of(pair.tenant), old)
    else:
        new = pair.group.wait_failover(old)
    assert new is replica
