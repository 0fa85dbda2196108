"""One store for many: tasks, threads, event loops, processes; and two stores that compete."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from lukhas_redis import AsyncContextStore, ContextStore
from lukhas_redis.errors import LukhasRedisError, VersionConflict
from lukhas_redis.models import Preserved
from tests.fix_farm import Topology
from tests.store.conftest import MakesStores


@pytest.mark.core
async def test_of_two_writers_with_one_version_exactly_one_wins(make: MakesStores) -> None:
    """In each of many rounds two stores write the same version: one wins, the other learns the actual version."""
    one, two = make(), make()
    made = await one.preserve("s", {"n": 0})

    async def write(store: AsyncContextStore, who: int, version: int) -> Preserved | LukhasRedisError:
        try:
            return await store.preserve("s", {"who": who}, context_id=made.context_id, if_version=version)
        except VersionConflict as conflict:
            return conflict

    for version in range(1, 21):
        done = await asyncio.gather(write(one, 1, version), write(two, 2, version))
        assert Counter(type(result) for result in done) == {Preserved: 1, VersionConflict: 1}
        winner = next(place for place, result in enumerate(done) if isinstance(result, Preserved))
        found = await one.restore(made.context_id)
        assert (found.data, found.version) == ({"who": winner + 1}, version + 1)


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_fifty_tasks_at_once_lose_nothing(make: MakesStores, shards: int) -> None:
    """Fifty tasks each preserve, read, hand over and increment a common counter: all effects are there."""
    store = make(shards=shards)
    common = await store.preserve("s", {"count": 0})

    async def work(n: int) -> None:
        own = await store.preserve(f"s{n}", {"n": n})
        await store.handoff(own.context_id, "a", "b")
        assert (await store.restore(own.context_id)).data == {"n": n}
        while True:
            found = await store.restore(common.context_id)
            try:
                data = {"count": found.data["count"] + 1}
                await store.preserve("s", data, context_id=common.context_id, if_version=found.version)
            except VersionConflict:
                continue
            return

    await asyncio.gather(*(work(n) for n in range(50)))
    found = await store.restore(common.context_id)
    assert (found.data, found.version) == ({"count": 50}, 51)
    assert (await store.stats()).live == 51
    assert (await store.check()).sound


@pytest.mark.core
def test_eight_threads_share_one_store(topology: Topology, tenant: str) -> None:
    """Eight threads use one sync store: each reads what it wrote, and the accounts are exact."""
    with ContextStore.connect(topology.url, tenant=tenant) as store:

        def work(n: int) -> int:
            for turn in range(20):
                one = store.preserve(f"s{n}", {"n": n, "turn": turn})
                assert store.restore(one.context_id).data == {"n": n, "turn": turn}
                if turn % 2:
                    store.drop(one.context_id)
            return n

        with ThreadPoolExecutor(8) as threads:
            assert sorted(threads.map(work, range(8))) == list(range(8))
        stats = store.stats()
        assert (stats.live, stats.totals["preserved"], stats.totals["dropped"]) == (80, 160, 80)
        assert store.check().sound


@pytest.mark.core
def test_one_async_store_works_in_two_event_loops(topology: Topology, tenant: str) -> None:
    """A store made once serves one event loop after another, and two at the same time."""
    store = AsyncContextStore.connect(topology.url, tenant=tenant)

    async def work(n: int) -> dict[str, int]:
        async with store:
            one = await store.preserve("s", {"n": n})
            return (await store.restore(one.context_id)).data

    assert asyncio.run(work(1)) == {"n": 1}
    assert asyncio.run(work(2)) == {"n": 2}
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(lambda n: asyncio.run(work(n)), (3, 4))) == [{"n": 3}, {"n": 4}]


@pytest.mark.core
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_store_survives_a_fork(topology: Topology, tenant: str) -> None:
    """After os.fork parent and child use the same store object at once, on connections of their own."""
    with ContextStore.connect(topology.url, tenant=tenant) as store:
        one = store.preserve("s", {"by": "parent"})
        read, write = os.pipe()
        child = os.fork()
        if not child:
            said = b"no"
            try:
                for n in range(50):
                    made = store.preserve("s", {"by": "child", "n": n})
                    assert store.restore(made.context_id).data == {"by": "child", "n": n}
                said = b"ok"
            finally:
                os.write(write, said)
                os._exit(0)
        for n in range(50):
            store.preserve("s", {"by": "parent", "n": n}, context_id=one.context_id)
            assert store.restore(one.context_id).data == {"by": "parent", "n": n}
        assert os.read(read, 10) == b"ok"
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)
        assert store.stats().live == 51


async def test_a_closed_store_opens_again(store: AsyncContextStore) -> None:
    """close() ends the connections; the next call makes new ones."""
    one = await store.preserve("s", {"n": 1})
    await store.close()
    assert (await store.restore(one.context_id)).data == {"n": 1}
    assert (await store.ready()).version


async def test_a_store_takes_a_client_of_redis_py(topology: Topology, tenant: str) -> None:
    """The constructors take redis-py clients, sync and asyncio, single and cluster."""
    client = topology.client()
    with ContextStore(client, tenant=tenant) as store:
        one = store.preserve("s", {"n": 1})
        assert store.restore(one.context_id).data == {"n": 1}
    client.close()
