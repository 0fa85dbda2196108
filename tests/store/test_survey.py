"""list, stats, sweep, check, repair: looking at a whole tenant and putting it right."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from lukhas_redis.errors import ContextLost
from lukhas_redis.models import Fault, Preserved
from lukhas_redis.testing import wait_until
from tests.store.conftest import Look, MakesStores


async def _some(make: MakesStores, count: int, **settings: Any) -> tuple[Any, list[Preserved]]:
    store = make(min_ttl_seconds=1, **settings)
    items = [
        {"session_id": f"s{n % 3}", "data": {"n": n}, "context_type": "session" if n % 2 else "conversation"}
        for n in range(count)
    ]
    return store, [one for one in await store.preserve_many(items) if isinstance(one, Preserved)]


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("page", [1, 7, 1000])
async def test_a_listing_shows_each_live_context_once(make: MakesStores, shards: int, page: int) -> None:
    """Whatever the page and the shards, every live context comes exactly once; filters leave out the others."""
    store, made = await _some(make, 30, shards=shards)
    gone = made.pop()
    await store.drop(gone.context_id)
    listed = [one.context_id async for one in store.list(page=page)]
    assert sorted(listed) == sorted(one.context_id for one in made)
    for wanted in ({"session_id": "s1"}, {"context_type": "session"}, {"session_id": "s2", "context_type": "session"}):
        found = [one.context_id async for one in store.list(page=page, **wanted)]
        assert sorted(found) == sorted(
            one.context_id for one in made if all(getattr(one, name) == value for name, value in wanted.items())
        )
    assert [one async for one in store.list(session_id="nobody")] == []


async def test_a_listing_goes_by_deadline_and_leaves_out_the_expired(make: MakesStores, look: Look) -> None:
    """Soonest deadline first; a context past its deadline is not listed though nobody swept."""
    store = make(min_ttl_seconds=1)
    made = [await store.preserve("s", {}, ttl=ttl) for ttl in (300, 1, 100, 200)]
    wait_until(lambda: look.now_ms() > made[1].expires_ms, what="the deadline to pass")
    for wanted in ({}, {"session_id": "s"}):
        listed = [one async for one in store.list(**wanted)]  # type: ignore[arg-type]
        assert [one.context_id for one in listed] == [made[n].context_id for n in (2, 3, 0)]


async def test_contexts_dropped_during_a_listing_disturb_nothing(make: MakesStores) -> None:
    """Those that stay are listed once each, though others go between the pages."""
    store, made = await _some(make, 20)
    seen: list[str] = []
    dropped: set[str] = set()
    async for one in store.list(page=3):
        seen.append(one.context_id)
        following = [other for other in made if other.context_id not in {*seen, *dropped}]
        if following and len(dropped) < 6:
            dropped.add(following[-1].context_id)
            await store.drop(following[-1].context_id)
    assert len(seen) == len(set(seen))
    assert {one.context_id for one in made} - dropped <= set(seen)


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_stats_add_up(make: MakesStores, look: Look, shards: int) -> None:
    """Live, expired, bytes and totals are exact sums over the shards."""
    store, made = await _some(make, 10, shards=shards)
    short = await store.preserve("s0", {}, ttl=1)
    await store.drop(made[0].context_id)
    await store.handoff(made[1].context_id, "a", "b")
    await store.restore(made[1].context_id)
    wait_until(lambda: look.now_ms() > short.expires_ms, what="the deadline to pass")
    stats = await store.stats()
    assert (stats.live, stats.expired, len(stats.shards)) == (9, 1, shards)
    assert stats.bytes == sum(one.stored_bytes for one in made[1:]) + short.stored_bytes
    wanted = {"preserved": 11, "dropped": 1, "handed_off": 1, "restored": 1, "entries": 10, "entries:session": 5}
    assert {name: stats.totals[name] for name in wanted} == wanted
    assert sum(shard.events for shard in stats.shards) == 13


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_a_sweep_gives_back_what_expired(make: MakesStores, look: Look, shards: int) -> None:
    """After a sweep no account of an expired context is left, each had its event, and live ones are untouched."""
    store, _made = await _some(make, 6, shards=shards)
    short = [await store.preserve(f"s{n}", {}, ttl=1) for n in range(5)]
    wait_until(lambda: look.now_ms() > short[-1].expires_ms, what="the deadline to pass")
    first = await store.sweep(limit=3)
    assert (first.removed, first.remaining, first.dry_run) == (3, 2, False)
    second = await store.sweep()
    assert (second.removed, second.remaining) == (2, 0)
    stats = await store.stats()
    assert (stats.live, stats.expired, stats.totals["expired"], stats.totals["entries"]) == (6, 0, 5, 6)
    told = [e for n in range(shards) for e in await store.events(shard=n)]
    gone = sorted(e.context_id for e in told if e.event == "context.expire")
    assert gone == sorted(one.context_id for one in short)
    assert (await store.check()).sound
    assert (await store.sweep()).removed == 0


# What a hand deletes -> the fault that check names.
DAMAGE = {
    "ctx": "lost",
    "body": "lost",
    "index": "unindexed",
    "sizes": "uncounted",
    "order": "unordered",
    "ctx-deadline": "deadline",
    "body-deadline": "deadline",
}


def _damage(look: Look, keys: Any, context_id: str, what: str) -> None:
    if what in ("ctx", "body"):
        look.command("DEL", getattr(keys, what)(context_id))
    elif what == "sizes":
        look.command("HDEL", keys.sizes, context_id)
    elif what in ("index", "order"):
        look.command("ZREM", getattr(keys, what), context_id)
    else:
        look.command("PERSIST", getattr(keys, what.split("-", maxsplit=1)[0])(context_id))


@pytest.mark.core
@pytest.mark.parametrize("what", DAMAGE)
@pytest.mark.parametrize("shards", [1, 4])
async def test_check_names_and_repair_heals(make: MakesStores, look: Look, what: str, shards: int) -> None:
    """Each kind of damage is named by check, which changes nothing, and healed by repair; then all is sound."""
    store, made = await _some(make, 6, shards=shards)
    assert (await store.check()).sound
    hurt = made[2]
    _damage(look, store._space.shard_for(hurt.context_id), hurt.context_id, what)
    before = look.dump()
    found = await store.check()
    assert found.faults == (Fault(hurt.context_id, DAMAGE[what]),)
    assert look.dump() == before
    repaired = await store.repair()
    assert repaired.faults == found.faults
    assert repaired.repaired
    assert (await store.check()).sound
    stats = await store.stats()
    lost = DAMAGE[what] == "lost"
    assert (stats.live, stats.totals["entries"]) == ((5, 5) if lost else (6, 6))
    assert stats.bytes == sum(one.stored_bytes for one in made if not (lost and one is hurt))
    if lost:
        with pytest.raises(ContextLost):
            await store.restore(hurt.context_id)
        told = [e for n in range(shards) for e in await store.events(shard=n)]
        assert [e.context_id for e in told if e.event == "context.lose"] == [hurt.context_id]
    else:
        assert (await store.metadata(hurt.context_id)).expires_ms == hurt.expires_ms


async def test_totals_written_by_another_hand_are_recounted(make: MakesStores, look: Look) -> None:
    """Check says by how much the totals are off, repair makes them right."""
    store, made = await _some(make, 4)
    look.command("HINCRBY", look.keys.usage, "bytes", 1000)
    look.command("HINCRBY", look.keys.usage, "entries", -3)
    look.command("HSET", look.keys.usage, "entries:ghost", 7)
    found = await store.check()
    assert (found.bytes_off, found.entries_off, found.sound) == (1000, -3, False)
    await store.repair()
    assert (await store.check()).sound
    stats = await store.stats()
    assert stats.bytes == sum(one.stored_bytes for one in made)
    assert "entries:ghost" not in stats.totals


@pytest.mark.parametrize("key", ["index", "sizes", "usage", "order", "session"])
async def test_a_whole_account_deleted_by_hand_is_rebuilt(make: MakesStores, look: Look, key: str) -> None:
    """Contexts stay readable without any of the accounts, and repair rebuilds it from the contexts themselves."""
    store, made = await _some(make, 6)
    look.command("DEL", look.keys.session("s0") if key == "session" else getattr(look.keys, key))
    for one in made:
        assert (await store.restore(one.context_id)).version == 1
    await store.repair()
    assert (await store.check()).sound
    stats = await store.stats()
    assert (stats.live, stats.totals["entries"]) == (6, 6)
    assert stats.bytes == sum(one.stored_bytes for one in made)
    await store.preserve("s0", {"n": 9}, context_id=made[0].context_id)
    await store.drop(made[1].context_id)
    assert (await store.check()).sound


async def test_reports_on_a_tenant_nobody_has_used(make: MakesStores, look: Look) -> None:
    """Looking at an empty tenant finds nothing and leaves nothing."""
    store = make(shards=4)
    assert (await store.stats()).live == 0
    assert (await store.check()).sound
    assert await store.events(shard=3) == []
    assert await store.audit() == []
    assert await store.flags() == {}
    assert [one async for one in store.list()] == []
    assert [type(one).__name__ for one in await store.restore_many([str(uuid4())] * 2)] == ["ContextNotFound"] * 2
    assert look.dump() == {}
