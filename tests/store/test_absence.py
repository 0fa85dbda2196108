"""Why a context is not there: each reason is an error of its own, and none is ever an empty answer."""

from __future__ import annotations

from uuid import uuid4

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import (
    ContextDropped,
    ContextEvicted,
    ContextExpired,
    ContextLost,
    ContextNotFound,
)
from lukhas_redis.testing import wait_until
from tests.store.conftest import Look, MakesStores


async def _absent(store: AsyncContextStore, context_id: str, reason: type[ContextNotFound]) -> None:
    for ask in (store.restore, store.metadata, store.lifecycle, store.hops, store.drop, store.pin):
        with pytest.raises(ContextNotFound) as caught:
            await ask(context_id)
        assert type(caught.value) is reason, f"{ask} said {caught.value!r}"
        assert context_id in str(caught.value)
    for more in (store.extend(context_id, 60), store.handoff(context_id, "a", "b")):
        with pytest.raises(reason):
            await more


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_never_dropped_and_evicted_are_told_apart(make: MakesStores, shards: int) -> None:
    """What never existed, what was dropped and what was evicted are three different errors for every method."""
    store = make(shards=shards, min_ttl_seconds=1)
    await _absent(store, str(uuid4()), ContextNotFound)
    dropped = await store.preserve("s", {})
    await store.drop(dropped.context_id)
    await _absent(store, dropped.context_id, ContextDropped)
    evicted = await store.preserve("s", {})
    await store.set_flag("max_entries", str(shards))
    await store.set_flag("policy", "evict_oldest")
    assert (await store.preserve("s", {})).evicted == 1
    await _absent(store, evicted.context_id, ContextEvicted)


@pytest.mark.core
async def test_expired_is_told_before_and_after_the_sweep(make: MakesStores, look: Look) -> None:
    """After its deadline a context is not readable, and the reason is the same before and after sweeping."""
    store = make(min_ttl_seconds=1)
    one = await store.preserve("s", {"n": 1}, ttl=1)
    wait_until(lambda: look.now_ms() > one.expires_ms, what="the deadline to pass")
    await _absent(store, one.context_id, ContextExpired)
    assert (await store.sweep()).removed == 1
    await _absent(store, one.context_id, ContextExpired)


async def test_the_reason_is_kept_for_the_grace_period_only(make: MakesStores, look: Look) -> None:
    """Once the grace period is over nothing is remembered of a context."""
    store = make(tombstone_grace_seconds=1)
    one = await store.preserve("s", {})
    await store.drop(one.context_id)
    with pytest.raises(ContextDropped):
        await store.restore(one.context_id)
    wait_until(lambda: not look.command("EXISTS", look.keys.tombs), what="the tombs to expire")
    await _absent(store, one.context_id, ContextNotFound)


async def test_reasons_are_bounded_in_number(make: MakesStores, look: Look) -> None:
    """No more reasons are kept than the setting says; the oldest are forgotten first."""
    store = make(max_tombstones=3)
    made = [(await store.preserve("s", {})).context_id for _ in range(6)]
    for context_id in made:
        await store.drop(context_id)
        dropped_ms = look.now_ms()
        wait_until(lambda at=dropped_ms: look.now_ms() > at, what="the next millisecond")  # type: ignore[misc]
    assert int(look.command("ZCARD", look.keys.tombs)) == 3
    await _absent(store, made[0], ContextNotFound)
    await _absent(store, made[-1], ContextDropped)


@pytest.mark.parametrize("gone", ["ctx", "ctx body", "ctx body hops log"])
async def test_keys_deleted_by_hand_are_a_loss(store: AsyncContextStore, look: Look, gone: str) -> None:
    """A context whose keys somebody deleted is lost, not absent, until its deadline."""
    one = await store.preserve("s", {})
    look.command("DEL", *(getattr(look.keys, kind)(one.context_id) for kind in gone.split()))
    await _absent(store, one.context_id, ContextLost)


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_body_deleted_by_hand_is_a_loss_for_its_reader(store: AsyncContextStore, look: Look, size: int) -> None:
    """Metadata without a body never restores as empty data, small or large."""
    one = await store.preserve("s", {"x": bytes(range(256)) * (size // 256 + 1)}, compression="none")
    look.command("DEL", look.keys.body(one.context_id))
    with pytest.raises(ContextLost):
        await store.restore(one.context_id)
    invariants = (await store.lifecycle(one.context_id)).invariants
    assert invariants is not None
    assert invariants.single_store_source is False


@pytest.mark.core
async def test_another_incarnation_starts_anew(store: AsyncContextStore) -> None:
    """Dropped and preserved again, an id has version 1, another incarnation, no owner, no hops and no old reason."""
    one = await store.preserve("s", {"n": 1})
    await store.handoff(one.context_id, "a", "b")
    await store.drop(one.context_id)
    two = await store.preserve("other session", {"n": 2}, context_id=one.context_id, if_version=0)
    assert two.version == 1
    assert two.incarnation != one.incarnation
    known = (await store.restore(one.context_id)).metadata
    assert (known.owner, known.hop_count, await store.hops(one.context_id)) == (None, 0, [])
    assert [one.session_id async for one in store.list(session_id="s")] == []
    assert [one.session_id async for one in store.list(session_id="other session")] == ["other session"]
