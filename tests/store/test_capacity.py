"""Capacity: entries, bytes and type shares are exact and never exceeded, whatever the policy."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import ContextEvicted, StoreFull, Throttled
from lukhas_redis.models import Preserved
from lukhas_redis.testing import wait_until
from tests.store.conftest import Look, MakesStores

HUNDRED = {"x": b"a" * 100}


async def _fill(store: AsyncContextStore, count: int, **options: Any) -> list[Preserved]:
    return [await store.preserve("s", HUNDRED, compression="none", **options) for _ in range(count)]


def _next_millisecond(look: Look, at_ms: int) -> None:
    wait_until(lambda: look.now_ms() > at_ms, what="the next millisecond")


async def _exact(store: AsyncContextStore, live: int, size: int) -> None:
    stats = await store.stats()
    assert (stats.live, stats.bytes, stats.totals["entries"]) == (live, live * size, live)
    assert (await store.check()).sound


@pytest.mark.core
@pytest.mark.parametrize("limit", ["entries", "bytes"])
async def test_a_full_tenant_refuses(make: MakesStores, look: Look, limit: str) -> None:
    """Under reject the write that would exceed the limit is refused, names the limit, and changes nothing."""
    size = (await make().preserve("s", HUNDRED, compression="none", dry_run=True)).stored_bytes
    store = make(**{"max_memory_store_entries": 3} if limit == "entries" else {"max_tenant_bytes": 4 * size - 1})
    made = await _fill(store, 3)
    before = look.dump()
    with pytest.raises(StoreFull) as caught:
        await store.preserve("s", HUNDRED, compression="none")
    assert caught.value.fields == {"scope": limit, "limit": 3 if limit == "entries" else 4 * size - 1}
    assert caught.value.retryable
    assert look.dump() == before
    await store.preserve("s", HUNDRED, compression="none", context_id=made[0].context_id)
    await store.drop(made[1].context_id)
    await _fill(store, 1)
    await _exact(store, 3, size)


@pytest.mark.parametrize("policy", ["reject", "evict_oldest", "evict_lru"])
async def test_one_context_over_the_byte_limit_is_refused(make: MakesStores, look: Look, policy: str) -> None:
    """What can never fit evicts nobody."""
    store = make(max_tenant_bytes=500, eviction_policy=policy)
    await _fill(store, 2)
    before = look.dump()
    with pytest.raises(StoreFull, match="500 bytes"):
        await store.preserve("s", {"x": b"a" * 500}, compression="none")
    assert look.dump() == before


@pytest.mark.core
@pytest.mark.parametrize("policy,victim", [("evict_oldest", 0), ("evict_lru", 1)])
async def test_a_policy_chooses_its_victim(make: MakesStores, look: Look, policy: str, victim: int) -> None:
    """evict_oldest takes what was written longest ago, evict_lru what was read or written longest ago."""
    store = make(max_memory_store_entries=3, eviction_policy=policy, touch_interval_seconds=0)
    made = []
    for _ in range(3):
        made += await _fill(store, 1)
        _next_millisecond(look, made[-1].created_ms)
    await store.restore(made[0].context_id)
    new = (await _fill(store, 1))[0]
    assert new.evicted == 1
    with pytest.raises(ContextEvicted):
        await store.restore(made[victim].context_id)
    for place, one in enumerate(made):
        if place != victim:
            await store.restore(one.context_id)
    assert not [key for key in look.dump() if made[victim].context_id.encode() in key]
    await _exact(store, 3, new.stored_bytes)


async def test_room_for_a_large_one_may_cost_several(make: MakesStores) -> None:
    """As many contexts are evicted as the bytes need, and no more."""
    store = make(max_tenant_bytes=2000, eviction_policy="evict_oldest")
    made = await _fill(store, 10)
    size = made[0].stored_bytes
    new = await store.preserve("s", {"x": b"a" * 400}, compression="none")
    needed = -(-(10 * size + new.stored_bytes - 2000) // size)
    assert new.evicted == needed
    assert (await store.stats()).live == 10 - needed + 1
    assert (await store.check()).sound


@pytest.mark.slow
async def test_hundreds_of_victims_are_taken_in_steps(make: MakesStores) -> None:
    """Where one call may not evict enough, the store goes on until there is room."""
    store = make(max_tenant_bytes=60_000, eviction_policy="evict_oldest")
    item = {"session_id": "s", "data": HUNDRED, "compression": "none"}
    await store.preserve_many([item] * 350)
    await store.preserve("s", {"x": b"a" * 55_000}, compression="none")
    stats = await store.stats()
    assert stats.bytes <= 60_000
    assert stats.totals["evicted"] + stats.live == 351
    assert (await store.check()).sound


@pytest.mark.parametrize("policy", ["evict_oldest", "evict_lru"])
async def test_pinned_contexts_are_never_evicted(make: MakesStores, look: Look, policy: str) -> None:
    """A pinned context stays though it is the oldest; when only pinned ones are left the tenant is full."""
    store = make(max_memory_store_entries=2, eviction_policy=policy)
    pinned, other = await _fill(store, 2)
    await store.pin(pinned.context_id)
    new = (await _fill(store, 1))[0]
    await store.restore(pinned.context_id)
    with pytest.raises(ContextEvicted):
        await store.restore(other.context_id)
    await store.pin(new.context_id)
    before = look.dump()
    with pytest.raises(StoreFull):
        await _fill(store, 1)
    assert look.dump() == before


async def test_a_type_has_its_share(make: MakesStores, look: Look) -> None:
    """A type with a share of the capacity is refused above it while other types go on."""
    store = make(max_memory_store_entries=4, policies={"session": {"capacity_share": 0.5}})
    await _fill(store, 2, context_type="session")
    before = look.dump()
    with pytest.raises(StoreFull) as caught:
        await _fill(store, 1, context_type="session")
    assert caught.value.fields == {"scope": "type", "limit": 2}
    assert look.dump() == before
    await _fill(store, 2, context_type="conversation")


async def test_limits_change_at_run_time_for_every_worker(make: MakesStores) -> None:
    """A limit set as a flag outranks the settings of every store on its next call; '' gives them back."""
    one, two = make(max_memory_store_entries=2), make(max_memory_store_entries=2)
    await _fill(one, 2)
    with pytest.raises(StoreFull):
        await _fill(two, 1)
    await one.set_flag("max_entries", "3", by="ops", reason="more room")
    await _fill(two, 1)
    await one.set_flag("policy", "evict_oldest")
    assert (await _fill(two, 1))[0].evicted == 1
    await one.set_flag("policy", "")
    with pytest.raises(StoreFull):
        await _fill(two, 1)


async def test_a_limit_under_todays_use_refuses_growth_only(make: MakesStores) -> None:
    """When a limit is lowered below what is stored, contexts can be replaced by ones of the same size."""
    store = make()
    made = await _fill(store, 3)
    await store.set_flag("max_bytes", "200")
    await store.set_flag("max_entries", "1")
    await store.preserve("s", {"x": b"b" * 100}, compression="none", context_id=made[0].context_id)
    with pytest.raises(StoreFull):
        await store.preserve("s", {"x": b"b" * 101}, compression="none", context_id=made[0].context_id)


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_expired_contexts_do_not_count(make: MakesStores, look: Look, shards: int) -> None:
    """A tenant full of expired contexts takes new ones at once, though nobody swept."""
    store = make(shards=shards, max_memory_store_entries=40, min_ttl_seconds=1)
    item = {"session_id": "s", "data": HUNDRED, "ttl": 1, "compression": "none"}
    made = await store.preserve_many([item] * (40 // shards))
    last = made[-1]
    assert isinstance(last, Preserved)
    wait_until(lambda: look.now_ms() > last.expires_ms, what="the deadline to pass")
    fresh = await _fill(store, 40 // shards)
    await _exact(store, 40 // shards, fresh[0].stored_bytes)
    assert (await store.stats()).totals["expired"] == 40 // shards


@pytest.mark.core
@pytest.mark.parametrize("policy", ["reject", "evict_lru"])
async def test_the_limit_holds_under_concurrency(make: MakesStores, policy: str) -> None:
    """Fifty writers at once on a tenant with room for ten: never more than ten, and the accounts are exact."""
    store = make(max_memory_store_entries=10, eviction_policy=policy)

    async def write(n: int) -> Preserved | StoreFull:
        try:
            return await store.preserve("s", HUNDRED, compression="none")
        except StoreFull as full:
            return full

    done = await asyncio.gather(*(write(n) for n in range(50)))
    kept = [one for one in done if isinstance(one, Preserved)]
    assert len(kept) == (10 if policy == "reject" else 50)
    assert sum(one.evicted for one in kept) == (0 if policy == "reject" else 40)
    await _exact(store, 10, kept[0].stored_bytes)


async def test_pressure_is_the_fuller_of_entries_and_bytes(make: MakesStores) -> None:
    """stats() says how full the tenant is and raises the alert above 0.85."""
    store = make(max_memory_store_entries=10, max_tenant_bytes=100_000)
    await _fill(store, 8)
    stats = await store.stats()
    assert (stats.pressure, stats.alert, stats.max_entries, stats.max_bytes) == (0.8, False, 10, 100_000)
    await _fill(store, 1)
    assert (await store.stats()).alert
    await store.set_flag("max_bytes", "1400")
    stats = await store.stats()
    assert stats.pressure == stats.bytes / 1400


async def test_throughput_is_limited_with_a_hint_when_to_come_back(make: MakesStores, look: Look) -> None:
    """Above the tenant's megabits per second a write is refused with the time to wait, and changes nothing."""
    store = make(max_context_throughput_mbps=1)
    await store.preserve("s", {"x": b"a" * 400_000}, compression="none")
    before = look.dump()
    with pytest.raises(Throttled) as caught:
        await store.preserve("s", HUNDRED)
    assert 1_000 < caught.value.fields["retry_after_ms"] < 4_000
    assert {k: v for k, v in look.dump().items() if b":stage:" not in k} == before
    await store.set_flag("max_mbps", "0")
    await store.preserve("s", HUNDRED)
