"""lease, renew, release: while it is live one owner alone writes, and who lost it can never write by mistake."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import (
    ContextDropped,
    ContextNotFound,
    InvalidArgument,
    InvalidId,
    LeaseHeld,
    LeaseLost,
    RequestReused,
    TenantPaused,
    VersionConflict,
)
from lukhas_redis.models import Lease
from lukhas_redis.testing import assert_same, wait_until
from tests.store.conftest import Look, MakesStores

Ask = Callable[..., Coroutine[Any, Any, Any]]
LARGE = b"L" * 40_000
# Every method that writes an existing context.
WRITES: dict[str, Ask] = {
    "preserve": lambda s, cid, **o: s.preserve("s", {"log": []}, context_id=cid, **o),
    "preserve large": lambda s, cid, **o: s.preserve("s", {"log": [], "x": LARGE}, context_id=cid, **o),
    "append": lambda s, cid, **o: s.append(cid, ("log",), [1], **o),
    "append large": lambda s, cid, **o: s.append(cid, ("log",), [LARGE], **o),
    "append with ttl": lambda s, cid, **o: s.append(cid, ("log",), [1], ttl=90, **o),
    "patch": lambda s, cid, **o: s.patch(cid, {"n": 1}, **o),
    "patch large": lambda s, cid, **o: s.patch(cid, {"x": LARGE}, **o),
    "handoff": lambda s, cid, **o: s.handoff(cid, "a", "a", **o),
    "extend": lambda s, cid, **o: s.extend(cid, 7200, **o),
    "pin": lambda s, cid, **o: s.pin(cid, **o),
    "drop": lambda s, cid, **o: s.drop(cid, **o),
}
writes = pytest.mark.parametrize("name", WRITES)


def _staged_aside(found: dict[bytes, Any]) -> dict[bytes, Any]:
    return {key: value for key, value in found.items() if b":stage:" not in key}


@pytest.mark.core
@writes
async def test_while_a_lease_is_live_its_holder_alone_writes(make: MakesStores, look: Look, name: str) -> None:
    """Without the token LeaseHeld names owner and end and changes nothing; with the lease or its token it is done."""
    store, other = make(), make()
    one = await store.preserve("s", {"log": []})
    held = await store.lease(one.context_id, "worker-1", 60)
    await other.restore(one.context_id)
    before = look.dump()
    for used in (store, other):
        with pytest.raises(LeaseHeld) as caught:
            await WRITES[name](used, one.context_id)
        assert caught.value.fields == {"owner": "worker-1", "until_ms": held.until_ms}
        assert isinstance(caught.value, VersionConflict)
        assert_same(before, _staged_aside(look.dump()))
    assert (await WRITES[name](store, one.context_id, lease=held, dry_run=True)).dry_run
    assert not (await WRITES[name](other, one.context_id, lease=held.token)).dry_run


@pytest.mark.core
@writes
async def test_a_lapsed_token_is_refused_though_nobody_took_over(make: MakesStores, look: Look, name: str) -> None:
    """After its end a lease writes nothing more, and who never had one may write again."""
    store = make()
    one = await store.preserve("s", {"log": []})
    held = await store.lease(one.context_id, "w", 0.1)
    wait_until(lambda: look.now_ms() > held.until_ms, what="the lease to lapse")
    before = look.dump()
    with pytest.raises(LeaseLost) as caught:
        await WRITES[name](store, one.context_id, lease=held)
    assert caught.value.fields["token"] == str(held.token)
    assert_same(before, _staged_aside(look.dump()))
    assert await WRITES[name](store, one.context_id)


@writes
@pytest.mark.parametrize("which", ["never given", "released", "of the lease before", "of another context"])
async def test_a_token_that_is_not_the_live_one_is_refused(
    store: AsyncContextStore, look: Look, name: str, which: str
) -> None:
    """Whatever other token: LeaseLost, and nothing is changed, whether or not another lease is live."""
    one, two = await store.preserve("s", {"log": []}), await store.preserve("s", {"log": []})
    first = await store.lease(one.context_id, "w", 60)
    token = {"never given": 12345, "of another context": (await store.lease(two.context_id, "w", 60)).token}
    await store.release(first)
    if which != "released":
        await store.lease(one.context_id, "v", 60)
    before = look.dump()
    with pytest.raises(LeaseLost):
        await WRITES[name](store, one.context_id, lease=token.get(which, first.token))
    assert_same(before, _staged_aside(look.dump()))


@pytest.mark.core
async def test_a_lease_is_held_by_one(make: MakesStores) -> None:
    """Twenty workers ask at once: one gets it, the others are told who has it; also the owner himself."""
    stores = [make() for _ in range(4)]
    one = await stores[0].preserve("s", {})

    async def ask(n: int) -> Lease | LeaseHeld:
        try:
            return await stores[n % 4].lease(one.context_id, f"w{n}", 60)
        except LeaseHeld as error:
            return error

    done = await asyncio.gather(*map(ask, range(20)))
    (held,) = [lease for lease in done if isinstance(lease, Lease)]
    assert {e.fields["owner"] for e in done if isinstance(e, LeaseHeld)} == {held.owner}
    with pytest.raises(LeaseHeld):
        await stores[0].lease(one.context_id, held.owner, 60)


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_tokens_only_grow(make: MakesStores, shards: int) -> None:
    """Over release, drop, another incarnation and another context of the shard."""
    store = make(shards=shards)
    cid, tokens = str(uuid4()), []
    for n in range(6):
        await store.preserve("s", {"n": n}, context_id=cid)
        held = await store.lease(cid, f"w{n}", 60)
        tokens.append(held.token)
        if n % 2:
            await store.release(held)
        else:
            await store.drop(cid, lease=held)
    assert tokens == sorted(set(tokens))


async def test_the_metadata_tells_who_holds_it(store: AsyncContextStore, look: Look) -> None:
    """Owner, token and end while it is live, None before and after; restore and list say the same; one event each."""
    one = await store.preserve("s", {})
    assert (await store.metadata(one.context_id)).lease is None
    now = look.now_ms()
    held = await store.lease(one.context_id, "w", timedelta(seconds=2))
    assert now + 2000 <= held.until_ms <= look.now_ms() + 2000
    assert held.until.timestamp() * 1000 == pytest.approx(held.until_ms)
    for known in (
        await store.metadata(one.context_id),
        (await store.restore(one.context_id)).metadata,
        *[m async for m in store.list()],
    ):
        assert known.lease == Lease(one.context_id, "w", held.token, held.until_ms)
        assert known.version == 1
    released = await store.release(held)
    assert (released.context_id, released.token) == (one.context_id, held.token)
    assert (await store.metadata(one.context_id)).lease is None
    assert [e.event for e in await store.events()] == ["context.preserve", "context.lease", "context.release"]


async def test_renewing_moves_the_end_and_keeps_the_token(store: AsyncContextStore, look: Look) -> None:
    """Later or sooner, from now; a lapsed or released one cannot be renewed."""
    one = await store.preserve("s", {"log": []})
    held = await store.lease(one.context_id, "w", 1)
    longer = await store.renew(held, 60)
    assert (longer.token, longer.owner) == (held.token, "w")
    assert longer.until_ms > held.until_ms + 50_000
    await store.append(one.context_id, ("log",), [1], lease=held)
    sooner = await store.renew(longer, 0.1)
    assert sooner.until_ms < longer.until_ms
    wait_until(lambda: look.now_ms() > sooner.until_ms, what="the lease to lapse")
    before = look.dump()
    for ask in (lambda: store.renew(longer, 60), lambda: store.release(longer)):
        with pytest.raises(LeaseLost):
            await ask()
    assert_same(before, look.dump())


async def test_after_a_release_others_may_write_and_the_token_never_again(store: AsyncContextStore) -> None:
    """Released: anybody writes without a token, with it nobody."""
    one = await store.preserve("s", {"log": []})
    held = await store.lease(one.context_id, "w", 60)
    await store.release(held)
    await store.append(one.context_id, ("log",), [1])
    asks: tuple[Callable[[], Any], ...] = (
        lambda: store.append(one.context_id, ("log",), [2], lease=held),
        lambda: store.release(held),
        lambda: store.renew(held, 5),
    )
    for ask in asks:
        with pytest.raises(LeaseLost):
            await ask()


async def test_a_lease_stays_over_the_writes_of_its_holder(store: AsyncContextStore) -> None:
    """preserve, append, patch and handoff under the token leave the lease as it is; a drop ends it."""
    one = await store.preserve("s", {"log": []})
    held = await store.lease(one.context_id, "w", 60)
    for name in ("preserve", "append", "append large", "patch", "handoff", "pin"):
        await WRITES[name](store, one.context_id, lease=held)
        known = (await store.metadata(one.context_id)).lease
        assert known is not None
        assert (known.token, known.until_ms) == (held.token, held.until_ms)
    await store.drop(one.context_id, lease=held)
    await store.preserve("s", {"log": []}, context_id=one.context_id)
    assert (await store.metadata(one.context_id)).lease is None
    with pytest.raises(LeaseLost):
        await store.append(one.context_id, ("log",), [1], lease=held)


async def test_reads_sweeps_and_evictions_go_on(make: MakesStores) -> None:
    """A lease keeps nobody from reading, and the context neither from being evicted nor from being counted."""
    store = make(max_memory_store_entries=1, eviction_policy="evict_oldest")
    one = await store.preserve("s", {"n": 1})
    await store.lease(one.context_id, "w", 60)
    assert (await make().restore(one.context_id)).data == {"n": 1}
    await store.sweep()
    assert (await store.check()).sound
    assert (await store.preserve("s", {"n": 2})).evicted == 1


@pytest.mark.core
async def test_a_dry_run_gives_no_lease(store: AsyncContextStore, look: Look) -> None:
    """lease, renew and release answer as live would, marked, and change nothing; in a tenant in dry run too."""
    one, two = await store.preserve("s", {}), await store.preserve("s", {})
    held = await store.lease(one.context_id, "w", 60)
    before = look.dump()
    dry = await store.lease(two.context_id, "w", 60, dry_run=True)
    assert (dry.dry_run, dry.owner) == (True, "w")
    assert dry.token > held.token
    assert (await store.renew(held, 90, dry_run=True)).dry_run
    assert (await store.release(held, dry_run=True)).dry_run
    with pytest.raises(LeaseHeld):
        await store.lease(one.context_id, "v", 60, dry_run=True)
    assert_same(before, look.dump())
    await store.set_mode("dry_run")
    before = look.dump()
    assert (await store.lease(two.context_id, "w", 60)).dry_run
    assert (await store.renew(held, 90)).dry_run
    assert (await store.release(held)).dry_run
    assert_same(before, look.dump())


@pytest.mark.core
async def test_a_paused_tenant_gives_no_new_lease(store: AsyncContextStore) -> None:
    """paused: a new lease is refused retryably; who holds one may keep it or give it up."""
    one, two = await store.preserve("s", {}), await store.preserve("s", {})
    held = await store.lease(one.context_id, "w", 60)
    await store.set_mode("paused")
    with pytest.raises(TenantPaused):
        await store.lease(two.context_id, "w", 60)
    held = await store.renew(held, 90)
    assert (await store.release(held)).token == held.token


async def test_a_repeat_returns_the_first_answer(store: AsyncContextStore, look: Look) -> None:
    """The same request id: the same token and end, no second lease; other arguments under it are refused."""
    one = await store.preserve("s", {})
    held = await store.lease(one.context_id, "w", 60, request_id="l")
    renewed = await store.renew(held, 90, request_id="r")
    released = await store.release(renewed, request_id="x")
    before = look.dump()
    assert await store.lease(one.context_id, "w", 60, request_id="l") == held
    assert await store.renew(held, 90, request_id="r") == renewed
    assert await store.release(renewed, request_id="x") == released
    asks: tuple[Callable[[], Any], ...] = (
        lambda: store.lease(one.context_id, "v", 60, request_id="l"),
        lambda: store.renew(held, 91, request_id="r"),
        lambda: store.lease(one.context_id, "w", 60, request_id="x"),
    )
    for ask in asks:
        with pytest.raises(RequestReused):
            await ask()
    assert_same(before, look.dump())


async def test_what_is_not_there_cannot_be_leased(store: AsyncContextStore, look: Look) -> None:
    """The reason of the absence is told, for lease, renew and release."""
    with pytest.raises(ContextNotFound):
        await store.lease(str(uuid4()), "w", 60)
    one = await store.preserve("s", {})
    held = await store.lease(one.context_id, "w", 60)
    await store.drop(one.context_id, lease=held)
    asks: tuple[Callable[[], Any], ...] = (
        lambda: store.lease(one.context_id, "w", 60),
        lambda: store.renew(held, 60),
        lambda: store.release(held),
    )
    for ask in asks:
        with pytest.raises(ContextDropped):
            await ask()


@pytest.mark.parametrize("ttl", [0, 0.05, -1, 86_401, True, "60", None, float("nan"), float("inf"), timedelta(days=2)])
async def test_a_lease_lasts_a_tenth_of_a_second_to_a_day(store: AsyncContextStore, look: Look, ttl: Any) -> None:
    """Anything else is refused before anything is sent."""
    one = await store.preserve("s", {})
    held = await store.lease(one.context_id, "w", 86_400)
    before = look.dump()
    asks: tuple[Callable[[], Any], ...] = (
        lambda: store.lease(one.context_id, "w", ttl),
        lambda: store.renew(held, ttl),
    )
    for ask in asks:
        with pytest.raises(InvalidArgument):
            await ask()
    assert_same(before, look.dump())


@pytest.mark.parametrize("lease", ["7", 0, -1, 1.5, True, object(), 10**15])
async def test_what_is_no_lease_sends_nothing(store: AsyncContextStore, look: Look, lease: Any) -> None:
    """A malformed lease is an argument error of every write, and so is a bad owner."""
    cid = str(uuid4())
    for write in WRITES.values():
        with pytest.raises(InvalidArgument):
            await write(store, cid, lease=lease)
    for ask in (lambda: store.renew(lease, 5), lambda: store.release(lease)):
        with pytest.raises(InvalidArgument):
            await ask()
    with pytest.raises((InvalidArgument, InvalidId)):
        await store.lease(cid, "two words", 60)
    assert look.dump() == {}
