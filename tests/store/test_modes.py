"""Modes, flags, audit, and the dry run that changes nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import ContextNotFound, StoreFull, TenantPaused, VersionConflict
from lukhas_redis.models import FlagChange, Preserved
from lukhas_redis.testing import assert_same, difference, wait_until
from tests.store.conftest import Look, MakesStores

Ask = Callable[[AsyncContextStore, str], Coroutine[Any, Any, Any]]
LARGE = {"x": b"large" * 20_000}

WRITES: dict[str, Ask] = {
    "preserve": lambda s, _: s.preserve("s", {"n": 2}),
    "preserve again": lambda s, cid: s.preserve("s", {"n": 2}, context_id=cid, ttl=120),
    "preserve large": lambda s, cid: s.preserve("s", LARGE, context_id=cid, compression="none"),
    "preserve compressed": lambda s, cid: s.preserve("s", {"x": "a" * 500_000}, context_id=cid),
    "preserve_many": lambda s, cid: s.preserve_many(
        [{"session_id": "s", "data": {"n": 2}}, {"session_id": "s", "data": {"n": 3}, "context_id": cid}]
    ),
    "handoff": lambda s, cid: s.handoff(cid, "a", "b", metadata={"x": 1}),
    "handoff with ttl": lambda s, cid: s.handoff(cid, "a", "b", ttl=60),
    "extend": lambda s, cid: s.extend(cid, 7200),
    "pin": lambda s, cid: s.pin(cid),
    "unpin": lambda s, cid: s.pin(cid, False),
    "drop": lambda s, cid: s.drop(cid),
    "append": lambda s, cid: s.append(cid, ("log",), [1]),
    "append large": lambda s, cid: s.append(cid, ("log",), [LARGE], ttl=90),
    "patch": lambda s, cid: s.patch(cid, {"n": 3}),
    "lease": lambda s, cid: s.lease(cid, "w", 60),
}
# Methods that follow the tenant's mode and have nothing to force.
FOLLOWS: dict[str, Ask] = {
    "sweep": lambda s, _: s.sweep(),
    "restore": lambda s, cid: s.restore(cid),
    "restore_many": lambda s, cid: s.restore_many([cid, str(uuid4())]),
    "repair": lambda s, _: s.repair(),
    "check": lambda s, _: s.check(),
    "stats": lambda s, _: s.stats(),
    "lifecycle": lambda s, cid: s.lifecycle(cid),
    "hops": lambda s, cid: s.hops(cid),
    "metadata": lambda s, cid: s.metadata(cid),
    "events": lambda s, _: s.events(),
    "flags": lambda s, _: s.flags(),
    "audit": lambda s, _: s.audit(),
}


def _marked(result: Any) -> bool:
    return all(one.dry_run for one in (result if isinstance(result, list) else [result]))


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_a_tenant_in_dry_run_stays_as_it_is(make: MakesStores, look: Look, shards: int) -> None:
    """In mode dry_run no method moves a key, a deadline, a stream or a group; writes say that they were dry."""
    store = make(shards=shards, min_ttl_seconds=1)
    one = await store.preserve("s", {"n": 1, "log": []})
    gone = await store.preserve("s", {"n": 0}, ttl=1)
    lost = await store.preserve("s", {"n": 0})
    keys = store._space.shard_for(lost.context_id)
    look.command("DEL", keys.ctx(lost.context_id))
    await store.set_mode("dry_run")
    fresh = make(shards=shards, min_ttl_seconds=1)
    wait_until(lambda: look.now_ms() > gone.expires_ms, what="the deadline to pass")
    wait_until(lambda: not any(gone.context_id.encode() in key for key in look.dump()), what="native expiry")
    before = look.dump()
    for name, ask in {**WRITES, **FOLLOWS}.items():
        for used in (store, fresh):
            result = await ask(used, one.context_id)
            assert name in FOLLOWS.keys() - {"sweep", "repair"} or _marked(result), name
            assert not difference(before, look.dump()), f"{name}: {difference(before, look.dump())}"


@pytest.mark.parametrize("name", [*WRITES, "sweep"])
async def test_a_forced_dry_run_changes_nothing(store: AsyncContextStore, look: Look, name: str) -> None:
    """dry_run=True in a live tenant: the answer is marked, and the dump stays the same."""
    one = await store.preserve("s", {"n": 1, "log": []})
    before = look.dump()
    method, _, _ = name.partition(" ")
    asks: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
        "preserve": lambda: store.preserve("s", LARGE, context_id=one.context_id, compression="none", dry_run=True),
        "preserve_many": lambda: store.preserve_many([{"session_id": "s", "data": {}, "dry_run": True}]),
        "handoff": lambda: store.handoff(one.context_id, "a", "b", ttl=90, dry_run=True),
        "extend": lambda: store.extend(one.context_id, 7200, dry_run=True),
        "pin": lambda: store.pin(one.context_id, dry_run=True),
        "unpin": lambda: store.pin(one.context_id, False, dry_run=True),
        "drop": lambda: store.drop(one.context_id, dry_run=True),
        "append": lambda: store.append(one.context_id, ("log",), [LARGE], dry_run=True),
        "patch": lambda: store.patch(one.context_id, {"n": 3}, dry_run=True),
        "lease": lambda: store.lease(one.context_id, "w", 60, dry_run=True),
        "sweep": lambda: store.sweep(dry_run=True),
    }
    assert _marked(await asks[method]())
    assert_same(before, look.dump())


@pytest.mark.core
async def test_a_dry_run_of_a_tenant_nobody_has_used_leaves_no_key(store: AsyncContextStore, look: Look) -> None:
    """Not even the tenant's record is made."""
    assert (await store.preserve("s", {"n": 1}, dry_run=True)).version == 1
    with pytest.raises(ContextNotFound):
        await store.drop(str(uuid4()), dry_run=True)
    assert (await store.sweep(dry_run=True)).removed == 0
    assert look.dump() == {}


async def test_a_dry_run_answers_what_live_answers(store: AsyncContextStore) -> None:
    """Version, sizes, checksum, hop, owner errors and evictions are those of the live call that follows."""
    one = await store.preserve("s", {"n": 1})
    await store.set_flag("max_entries", "1")
    await store.set_flag("policy", "evict_oldest")
    for ask in (
        lambda dry: store.preserve("s", {"n": 2}, context_id=one.context_id, dry_run=dry),
        lambda dry: store.handoff(one.context_id, "a", "b", dry_run=dry),
        lambda dry: store.pin(one.context_id, dry_run=dry),
        lambda dry: store.pin(one.context_id, False, dry_run=dry),
        lambda dry: store.preserve("s", {"n": 3}, dry_run=dry),
    ):
        dry: Any = await ask(True)
        live: Any = await ask(None)
        assert (dry.dry_run, live.dry_run) == (True, False)
        assert _comparable(dry) == _comparable(live)


def _comparable(result: Any) -> dict[str, Any]:
    own = {"context_id", "incarnation", "request_id", "dry_run", "created_ms", "expires_ms", "latency_ms"}
    return {
        name: getattr(result, name)
        for name in result.__dataclass_fields__
        if name not in own | {"serialize_ms", "compress_ms"}
    }


async def test_a_dry_run_refuses_what_live_refuses(store: AsyncContextStore, look: Look) -> None:
    """A conflict, a full tenant and an absence are found out without writing."""
    one = await store.preserve("s", {"n": 1})
    await store.set_flag("max_entries", "1")
    before = look.dump()
    with pytest.raises(StoreFull):
        await store.preserve("s", {"n": 1}, dry_run=True)
    with pytest.raises(VersionConflict):
        await store.preserve("s", {"n": 1}, context_id=one.context_id, if_version=7, dry_run=True)
    with pytest.raises(ContextNotFound):
        await store.extend(str(uuid4()), 60, dry_run=True)
    assert look.dump() == before


async def test_a_sweep_tells_in_a_dry_run_what_it_would_remove(make: MakesStores, look: Look) -> None:
    """Removed and remaining of a dry sweep are those of the live one, with more than one shard and call too."""
    store = make(shards=4, min_ttl_seconds=1)
    items = [{"session_id": f"s{n}", "data": {}, "ttl": 1} for n in range(250)]
    made = [one for one in await store.preserve_many(items) if isinstance(one, Preserved)]
    wait_until(lambda: look.now_ms() > max(one.expires_ms for one in made), what="the deadlines to pass")
    for limit, wanted in ((120, (120, 130)), (100, (100, 30)), (100, (30, 0))):
        dry = await store.sweep(limit=limit, dry_run=True)
        live = await store.sweep(limit=limit)
        assert (dry.removed, dry.remaining, dry.dry_run) == (*wanted, True)
        assert (live.removed, live.remaining, live.dry_run) == (*wanted, False)


@pytest.mark.core
async def test_false_never_overrides_a_tenant_in_dry_run(store: AsyncContextStore, look: Look) -> None:
    """dry_run=False in a tenant in dry run is a dry run."""
    one = await store.preserve("s", {"n": 1})
    await store.set_mode("dry_run")
    before = look.dump()
    assert (await store.preserve("s", {"n": 2}, context_id=one.context_id, dry_run=False)).dry_run
    assert (await store.preserve("s", LARGE, context_id=one.context_id, compression="none", dry_run=False)).dry_run
    assert (await store.drop(one.context_id, dry_run=False)).dry_run
    assert_same(before, look.dump())


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_a_paused_tenant_refuses_writes_and_nothing_else(make: MakesStores, look: Look, shards: int) -> None:
    """paused: writes are refused retryably and change nothing; reads, drop and sweep work; live again goes on."""
    store = make(shards=shards)
    one, two = await store.preserve("s", {"n": 1, "log": []}), await store.preserve("t", {"n": 2})
    other = make(shards=shards)
    await other.set_mode("paused", by="ops", reason="incident 7")
    before = look.dump()
    for name in [n for n in WRITES if n not in ("drop", "preserve_many")]:
        with pytest.raises(TenantPaused) as caught:
            await WRITES[name](store, one.context_id)
        assert caught.value.retryable
    assert {type(r) for r in await WRITES["preserve_many"](store, one.context_id)} == {TenantPaused}
    assert (await store.restore(one.context_id)).data == {"n": 1, "log": []}
    assert {k: v for k, v in look.dump().items() if b":stage:" not in k} == before
    await store.drop(two.context_id)
    await store.sweep()
    await store.set_mode("live")
    assert (await store.preserve("s", {"n": 2}, context_id=one.context_id)).version == 2


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_a_flag_reaches_every_worker_and_is_audited(make: MakesStores, shards: int) -> None:
    """A change is seen by every store on its next call and stands in the audit with who, from, to and why."""
    one, two = make(shards=shards), make(shards=shards)
    await one.preserve("s", {})
    assert await one.set_flag("beta", "on", by="ann", reason="try it") == FlagChange("flag.beta", "", "on")
    assert await two.set_flag("flag.beta", "off") == FlagChange("flag.beta", "on", "off")
    await two.set_mode("paused", by="bob", reason="lunch")
    assert await one.flags() == {"flag.beta": "off", "mode": "paused"}
    assert (await one.stats()).mode == "paused"
    await one.set_flag("beta", "")
    await one.set_mode("live")
    assert await two.flags() == {"mode": "live"}
    told = await two.audit()
    assert [(a.flag, a.before, a.after, a.why) for a in told] == [
        ("mode", "paused", "live", ""),
        ("flag.beta", "off", "", ""),
        ("mode", "", "paused", "lunch"),
        ("flag.beta", "on", "off", ""),
        ("flag.beta", "", "on", "try it"),
    ]
    assert [a.by for a in told][2:5:2] == ["bob", "ann"]
    assert len(await two.audit(count=2)) == 2


async def test_a_mode_changed_with_redis_cli_is_obeyed(store: AsyncContextStore, look: Look) -> None:
    """One HSET on the flags is enough to stop the writers."""
    await store.preserve("s", {})
    look.command("HSET", look.keys.flags, "mode", "paused")
    with pytest.raises(TenantPaused):
        await store.preserve("s", {})


async def test_the_initial_mode_counts_until_one_is_set(make: MakesStores, look: Look) -> None:
    """A tenant born in dry run writes nothing until its mode is switched."""
    store = make(initial_mode="dry_run")
    assert (await store.preserve("s", {})).dry_run
    assert look.dump() == {}
    await store.set_mode("live")
    assert not (await store.preserve("s", {})).dry_run
