"""The store while its cluster or Sentinel group changes under load.

What belongs here: whole contexts through failovers and slots on the move. What does not: single calls
(`test_transport_topologies`).
"""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.errors import ContextNotFound, LukhasRedisError, Unavailable
from lukhas_redis.models import Preserved
from lukhas_redis.settings import Settings
from lukhas_redis.store import ContextStore
from lukhas_redis.testing import Cluster, SentinelGroup
from lukhas_redis.transport.routes import slot_of

pytestmark = pytest.mark.faults

NOISE = os.urandom(100_000)  # does not shrink, so it is staged
Ended = Preserved | LukhasRedisError


def payload(number: int) -> dict[str, object]:
    """Small for most; every fifth is large enough to travel beside its script."""
    return {"n": number, "noise": NOISE if number % 5 == 0 else b""}


def settings(seconds: float) -> Settings:
    """Calls that give up after so many seconds."""
    return Settings.load(call_timeout_seconds=seconds)


async def preserve_all(store: AsyncContextStore, ids: list[str]) -> list[Ended]:
    """All at once; the request id is the number, so that a repeat is one."""

    async def one(number: int, context_id: str) -> Ended:
        try:
            return await store.preserve("s", payload(number), context_id=context_id, request_id=f"r{number}")
        except LukhasRedisError as error:
            return error

    return list(await asyncio.gather(*(one(number, context_id) for number, context_id in enumerate(ids))))


async def check_all(store: AsyncContextStore, ids: list[str]) -> None:
    """Every context is there, whole, written once, and the accounts are sound."""
    for number, context_id in enumerate(ids):
        found = await store.restore(context_id)
        assert (found.data, found.version) == (payload(number), 1)
    assert (await store.check()).sound
    assert (await store.stats()).live == len(ids)


async def planned(store: AsyncContextStore, count: int) -> list[str]:
    """Ids for `count` contexts; a dry run mints them and changes nothing."""
    return [(await store.preserve("s", {}, dry_run=True)).context_id for _ in range(count)]


async def test_a_half_migrated_slot_takes_a_write_or_surely_not(cluster: Cluster, tenant: str) -> None:
    """Fifty writers on a slot whose keys are split succeed or are `Unavailable` without effect; later all succeed."""
    async with AsyncContextStore.connect(cluster.url, tenant=tenant, settings=settings(2)) as store:
        ids = await planned(store, 50)
        before = await store.preserve("s", {"first": True})
        cluster.begin_migration(slot_of(tenant))
        during = await preserve_all(store, ids)
        assert [one for one in during if not isinstance(one, Preserved | Unavailable)] == []
        cluster.finish_migration(slot_of(tenant))
        for one, context_id in zip(during, ids, strict=True):
            if isinstance(one, Unavailable):
                with pytest.raises(ContextNotFound):
                    await store.restore(context_id)
        after = await preserve_all(store, ids)
        assert [one for one in after if not isinstance(one, Preserved)] == []
        await store.drop(before.context_id)
        await check_all(store, ids)


async def test_a_live_move_of_a_slot_loses_nothing(cluster: Cluster, tenant: str) -> None:
    """While a slot moves to another node, every write ends in success, once."""
    async with AsyncContextStore.connect(cluster.url, tenant=tenant, settings=settings(20)) as store:
        ids = await planned(store, 50)
        await store.preserve("other", {}, context_id=(gone := (await planned(store, 1))[0]))
        writing = asyncio.create_task(preserve_all(store, ids))
        await asyncio.to_thread(cluster.move_slot, slot_of(tenant))
        assert [one for one in await writing if not isinstance(one, Preserved)] == []
        await store.drop(gone)
        await check_all(store, ids)


async def test_a_killed_owner_is_replaced_under_load(cluster: Cluster, tenant: str) -> None:
    """Writers that run while their primary is killed all end in success on its replica, each once."""
    async with AsyncContextStore.connect(cluster.url, tenant=tenant, settings=settings(30)) as store:
        ids = await planned(store, 50)
        await store.drop((await store.preserve("s", {})).context_id)
        slot = slot_of(tenant)
        old = cluster.kill_primary(slot)
        results = await preserve_all(store, ids)
        cluster.wait_failover(slot, old)
        assert [one for one in results if not isinstance(one, Preserved)] == []
        await check_all(store, ids)


async def test_a_sentinel_failover_under_load(sentinels: SentinelGroup, tenant: str) -> None:
    """Writers that run while the primary is killed all end in success on the new one, each once."""
    async with AsyncContextStore.connect(sentinels.url, tenant=tenant, settings=settings(30)) as store:
        ids = await planned(store, 50)
        await store.drop((await store.preserve("s", {})).context_id)
        old = sentinels.kill_primary()
        results = await preserve_all(store, ids)
        sentinels.wait_failover(old)
        assert [one for one in results if not isinstance(one, Preserved)] == []
        await check_all(store, ids)


def test_threads_on_a_half_migrated_slot(cluster: Cluster, tenant: str) -> None:
    """The blocking store, shared by eight threads, meets a split slot as the async one does."""
    with ContextStore.connect(cluster.url, tenant=tenant, settings=settings(2)) as store:
        store.preserve("s", {})
        ended: list[Ended] = []

        def write(number: int) -> None:
            try:
                ended.append(store.preserve("t", payload(number)))
            except LukhasRedisError as error:
                ended.append(error)

        cluster.begin_migration(slot_of(tenant))
        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        cluster.finish_migration(slot_of(tenant))
        assert len(ended) == 8
        assert [one for one in ended if not isinstance(one, Preserved | Unavailable)] == []
        kept = sum(isinstance(one, Preserved) for one in ended)
        assert store.stats().live == kept + 1
        assert store.check().sound
