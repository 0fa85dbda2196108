"""Many expired contexts: none is readable, none counts, and their memory is given back in bounded steps.

What belongs here: numbers. What does not: one context's deadline (`store/test_absence`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import redis

from lukhas_redis import ContextStore
from lukhas_redis.errors import ContextExpired, StoreFull
from lukhas_redis.keys import ShardKeys
from lukhas_redis.models import Context, Preserved
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, frozen_expiry
from tests.fix_hypothesis import NIGHTLY
from tests.fix_servers import StartsServers

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1800 if NIGHTLY else 180)]

EXPIRED_AHEAD = 10_000
LIVE = 100_000 if NIGHTLY else 20_000
EXPIRED_AMONG = 1_000


def _filled(store: ContextStore, count: int) -> list[str]:
    ids: list[str] = []
    item = {"session_id": "s", "data": {"x": "y" * 20}, "compression": "none"}
    while len(ids) < count:
        made = store.preserve_many([item] * min(500, count - len(ids)))
        ids += [one.context_id for one in made if isinstance(one, Preserved)]
    return ids


def _expire(client: redis.Redis, keys: ShardKeys, ids: Sequence[str]) -> None:
    """Move the deadlines of contexts into the past, as if time had passed."""
    seconds, micros = client.time()
    past = seconds * 1000 + micros // 1000 - 1
    for start in range(0, len(ids), 1000):
        pipeline = client.pipeline(transaction=False)
        for context_id in ids[start : start + 1000]:
            for kind in ("ctx", "body", "hops", "log"):
                pipeline.pexpireat(getattr(keys, kind)(context_id), past)
            pipeline.zadd(keys.index, {context_id: past}, xx=True)
        pipeline.execute()


def _open(server: RunningServer, tenant: str, entries: int) -> ContextStore:
    settings = Settings(max_memory_store_entries=entries, max_context_throughput_mbps=0, call_timeout_seconds=30.0)
    return ContextStore.connect(server.url, tenant=tenant, settings=settings)


def test_ten_thousand_expired_ahead_of_a_full_tenant_are_no_false_full(
    fresh_server: StartsServers, tenant: str
) -> None:
    """A tenant full of contexts that nobody swept takes the next one at once, and the sums are exact."""
    server = fresh_server()
    with _open(server, tenant, EXPIRED_AHEAD) as store:
        ids = _filled(store, EXPIRED_AHEAD)
        with pytest.raises(StoreFull):
            store.preserve("s", {})
        with frozen_expiry(server.admin):
            _expire(server.admin, store._space.keys.root, ids)
            dry = store.preserve("s", {"n": 1}, dry_run=True)
            one = store.preserve("s", {"n": 1}, compression="none")
        stats = store.stats()
        assert (dry.evicted, one.evicted) == (0, 0)
        assert stats.live == 1
        assert stats.totals["entries"] == 1 + stats.expired
        assert stats.totals["expired"] + stats.expired == EXPIRED_AHEAD
        store.sweep(limit=EXPIRED_AHEAD)
        assert (store.stats().bytes, store.stats().totals["entries"]) == (one.stored_bytes, 1)
        assert store.check().sound


def test_a_thousand_expired_among_many_live(fresh_server: StartsServers, tenant: str) -> None:
    """None of the expired is readable, the quota is exact, and a sweep gives their memory back while the rest stays."""
    server = fresh_server()
    with _open(server, tenant, LIVE + EXPIRED_AMONG) as store:
        ids = _filled(store, LIVE + EXPIRED_AMONG)
        step = len(ids) // EXPIRED_AMONG
        gone = ids[::step][:EXPIRED_AMONG]
        size = store.metadata(ids[1]).stored_bytes
        with frozen_expiry(server.admin):
            _expire(server.admin, store._space.keys.root, gone)
            assert server.admin.dbsize() > 2 * LIVE
            found = [one for start in range(0, len(gone), 500) for one in _read(store, gone[start : start + 500])]
            assert [type(one) for one in found] == [ContextExpired] * EXPIRED_AMONG
            assert len(list(_ids(store))) == LIVE
            before = int(server.info("memory")["used_memory"])
            swept = store.sweep(limit=EXPIRED_AMONG)
            after = int(server.info("memory")["used_memory"])
        assert (swept.removed, swept.remaining) == (EXPIRED_AMONG, 0)
        assert after < before
        stats = store.stats()
        assert (stats.live, stats.expired, stats.bytes) == (LIVE, 0, LIVE * size)
        assert stats.totals["entries"] == LIVE
        left = set(ids) - set(gone)
        assert all(isinstance(one, Context) for one in _read(store, sorted(left)[:500]))


def _read(store: ContextStore, ids: Sequence[str]) -> list[object]:
    return list(store.restore_many(ids, touch=False))


def _ids(store: ContextStore) -> list[str]:
    return [one.context_id for one in store.list(page=1000)]


@pytest.mark.parametrize("policy", ["reject", "evict_oldest", "evict_lru"])
def test_the_byte_quota_holds_while_many_write_and_expire(
    fresh_server: StartsServers, tenant: str, policy: str
) -> None:
    """Four writers of all sizes, contexts expiring under them: no observer ever sees more bytes than allowed."""
    server, limit, seen = fresh_server(), 20_000, [0]
    settings = Settings(
        max_tenant_bytes=limit, eviction_policy=policy, max_context_throughput_mbps=0, min_ttl_seconds=1
    )
    with ContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        refused: list[int] = []
        keys, ended = store._space.keys.root, threading.Event()

        def watch() -> None:
            with server.client() as client:
                while not ended.is_set():
                    seen.append(int(client.hget(keys.usage, "bytes") or 0))

        def write(who: int) -> None:
            for n in range(100):
                try:
                    store.preserve("s", {"x": b"y" * (37 * (n * (who + 3) % 60))}, compression="none", ttl=1 + n % 2)
                except StoreFull:
                    refused.append(who)

        threads = [threading.Thread(target=write, args=(who,)) for who in range(4)]
        watcher = threading.Thread(target=watch)
        watcher.start()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ended.set()
        watcher.join()
        assert limit * 0.8 < max(seen) <= limit
        assert bool(refused) == (policy == "reject")
        assert store.check().sound
