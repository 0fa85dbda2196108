"""append: items reach the end of a list inside a context, each once, in order, at the price of the items.

What belongs here: what a caller of `append` is promised. What does not: damage (`faults/test_store_segments`), folding
for its own sake (`test_fold`), the near cache (`test_near`).
Invariant: whatever other workers do meanwhile, a context that was appended to can be read.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from os import urandom
from typing import Any
from uuid import uuid4

import pytest

from lukhas_redis import AsyncContextStore, ContextStore, ops
from lukhas_redis.errors import (
    ContextDropped,
    ContextEvicted,
    ContextExpired,
    ContextNotFound,
    ContextTooLarge,
    InvalidArgument,
    InvalidPath,
    LukhasRedisError,
    RequestReused,
    SerializationError,
    StoreFull,
    TenantPaused,
    Throttled,
    VersionConflict,
)
from lukhas_redis.models import Appended
from lukhas_redis.settings import Settings
from lukhas_redis.testing import assert_same, wait_until
from tests.fix_farm import Topology
from tests.store.conftest import Look, MakesStores
from tests.store.racing import between

LISTS: dict[Any, Any] = {
    "messages": [{"role": "user"}],
    "by": {"agent": {"log": []}},
    "runs": [{"steps": []}, {"steps": [1]}],
    "a/b~c": ["odd"],
    7: ["int"],
    "7": ["text"],
    "pair": (["inside"], 2),
    "name": "x",
    "nothing": None,
    "seen": {1, 2},
}
ITEMS: list[Any] = [
    datetime(2026, 1, 2, tzinfo=UTC),
    Decimal("1.10"),
    {("k", 1): frozenset({b"x"}), "set": {1, 2}},
    (1, [2, (3,)]),
    2**200,
    None,
    "naïve ☃",
]
# Under and over what travels as a segment.
SIZES = {"small": b"s", "large": b"L" * 40_000}
sizes = pytest.mark.parametrize("size", SIZES)


@pytest.fixture
def other(topology: Topology, tenant: str) -> Generator[ContextStore]:
    """Another worker of the same tenant."""
    settings = Settings(max_context_throughput_mbps=0, min_ttl_seconds=1)
    with ContextStore.connect(topology.url, tenant=tenant, settings=settings) as store:
        yield store


async def _read(store: AsyncContextStore, context_id: str) -> dict[str, Any]:
    return (await store.restore(context_id, touch=False)).data


# -- what is stored -----------------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_appended_items_come_back_equal_with_their_types(make: MakesStores, shards: int) -> None:
    """Every type that preserve takes is an item too; version and sequence count; another store reads the same."""
    store = make(shards=shards)
    one = await store.preserve("s", {"log": [0]})
    done = [await store.append(one.context_id, ("log",), [item]) for item in ITEMS]
    assert [(d.version, d.sequence) for d in done] == [(n, n) for n in range(2, 2 + len(ITEMS))]
    assert {(d.context_id, d.incarnation, d.expires_ms) for d in done} == {
        (one.context_id, one.incarnation, one.expires_ms)
    }
    for reader in (store, make(shards=shards)):
        found = (await reader.restore(one.context_id)).data["log"]
        assert found == [0, *ITEMS]
        assert [type(item) for item in found[1:]] == [type(item) for item in ITEMS]


@pytest.mark.parametrize(
    "path,steps",
    [
        (("messages",), ("messages",)),
        (["messages"], ("messages",)),
        ("/messages", ("messages",)),
        (("by", "agent", "log"), ("by", "agent", "log")),
        ("/by/agent/log", ("by", "agent", "log")),
        (("runs", 1, "steps"), ("runs", 1, "steps")),
        ("/runs/1/steps", ("runs", 1, "steps")),
        ("/a~1b~0c", ("a/b~c",)),
        ((7,), (7,)),
        ("/7", ("7",)),
        (("pair", 0), ("pair", 0)),
    ],
)
@sizes
async def test_a_path_reaches_exactly_its_list(store: AsyncContextStore, path: Any, steps: Any, size: str) -> None:
    """As a tuple of keys and indexes or as a pointer: that list grows, and nothing else changes."""
    one = await store.preserve("s", LISTS)
    await store.append(one.context_id, path, [SIZES[size], 2])
    await store.append(one.context_id, path, (3,))
    found = await _read(store, one.context_id)
    at: Any = found
    for step in steps:
        at = at[step]
    assert at[-3:] == [SIZES[size], 2, 3]
    del at[-3:]
    assert found == LISTS


@pytest.mark.parametrize(
    "path,said",
    [
        (("missing",), "/missing.*the top has no such key"),
        (("by", "agent", "x"), "/by/agent has no such key"),
        (("name",), "/name is a str and no list"),
        (("name", 0), "/name is a str, which no path goes into"),
        (("nothing",), "/nothing is None and no list"),
        (("seen",), "/seen is a set and no list"),
        (("by",), "/by is a dict and no list"),
        (("pair",), "/pair is a tuple and no list"),
        (("runs", 5, "steps"), "/runs is a list of 2"),
        (("runs", -1, "steps"), "whole numbers from 0"),
        ("/runs/01/steps", "whole numbers from 0"),
        ("/runs/-", "to append, name the list itself"),
        ("", "the top is a dict and no list"),
    ],
)
@sizes
async def test_where_no_list_is_the_error_names_what_is_there(
    store: AsyncContextStore, look: Look, path: Any, said: str, size: str
) -> None:
    """InvalidPath says how far the path leads and what is there; nothing is changed."""
    one = await store.preserve("s", LISTS)
    await store.restore(one.context_id)
    before = look.dump()
    with pytest.raises(InvalidPath, match=said) as caught:
        await store.append(one.context_id, path, [SIZES[size]])
    assert "path" in caught.value.fields
    assert not caught.value.retryable
    assert_same(before, look.dump())


@pytest.mark.parametrize("one", [True, 1.0], ids=str)
async def test_what_equals_a_step_is_not_that_step(store: AsyncContextStore, one: Any) -> None:
    """True and 1.0 equal 1 and are no index: told as on the first look, and no reader ever stumbles over it."""
    kept = await store.preserve("s", {"a": [["x"], ["y"]]})
    with pytest.raises(InvalidPath):
        await store.append(kept.context_id, ("a", one), ["first"])
    await store.append(kept.context_id, ("a", 1), ["good"])
    with suppress(InvalidPath):
        await store.append(kept.context_id, ("a", one), ["good as well"])
    assert (await store.restore(kept.context_id)).data["a"][1][:2] == ["y", "good"]


@pytest.mark.parametrize("path", ["messages", "/a~2", (), 5, None, ("x",) * 60, "/x" * 60, ([1],), "/\ud800"])
async def test_what_can_be_no_path_sends_nothing(store: AsyncContextStore, look: Look, path: Any) -> None:
    """A malformed path is refused before anything is asked."""
    with pytest.raises(InvalidPath):
        await store.append(str(uuid4()), path, [1])
    assert look.dump() == {}


@pytest.mark.parametrize("items", [[], (), "abc", b"abc", None, {"a": 1}, 5, {1, 2}])
async def test_items_are_a_list_with_something_in_it(store: AsyncContextStore, look: Look, items: Any) -> None:
    """Anything else is refused before anything is sent: a text is no list of letters."""
    with pytest.raises(InvalidArgument, match="items"):
        await store.append(str(uuid4()), ("a",), items)
    assert look.dump() == {}


async def test_an_item_may_be_as_deep_as_the_whole_allows(store: AsyncContextStore, look: Look) -> None:
    """Depth counts from the top of the context: 48 levels fit into a list at level 2, 49 do not."""
    one = await store.preserve("s", {"log": []})
    deep: Any = []
    for _ in range(47):
        deep = [deep]
    await store.append(one.context_id, ("log",), [deep])
    assert (await _read(store, one.context_id))["log"] == [deep]
    before = look.dump()
    with pytest.raises(SerializationError) as caught:
        await store.append(one.context_id, ("log",), [1, [deep]])
    assert caught.value.fields["path"].startswith("/1")
    assert_same(before, look.dump())


@pytest.mark.parametrize("item", [object(), "\ud800", {"a": {1: object()}}])
async def test_what_cannot_be_packed_is_named(store: AsyncContextStore, item: Any) -> None:
    """An unknown type or a lone surrogate among the items is a typed error with its place."""
    one = await store.preserve("s", {"log": []})
    with pytest.raises(SerializationError) as caught:
        await store.append(one.context_id, ("log",), [0, item])
    assert caught.value.fields["path"].startswith("/1")
    assert await _read(store, one.context_id) == {"log": []}


@pytest.mark.parametrize("size", [100, 1500])
async def test_a_context_never_outgrows_its_limit(make: MakesStores, size: int) -> None:
    """The append that would pass the limit is refused, after folding was tried; what is there stays readable."""
    store = make(max_context_size_bytes=6000, inline_body_bytes=1000)
    one = await store.preserve("s", {"log": []})
    done, refusal = await _until_refused(store, one.context_id, lambda: bytes(size))
    assert type(refusal) is ContextTooLarge
    assert done * (size + 3) <= 6000 < (done + 1) * (size + 3) + 100
    assert refusal.fields["limit_bytes"] == 6000
    known = await store.metadata(one.context_id)
    assert (await _read(make(), one.context_id)) == {"log": [bytes(size)] * done}
    assert known.version == done + 1
    await store.preserve("s", await _read(store, one.context_id), context_id=one.context_id)
    assert (await store.check()).sound


async def _until_refused(
    store: AsyncContextStore, context_id: str, item: Callable[[], bytes]
) -> tuple[int, LukhasRedisError]:
    """Append until the store has enough; how often it went well, and the refusal."""
    for done in range(100):
        try:
            await store.append(context_id, ("log",), [item()])
        except LukhasRedisError as error:
            return done, error
    raise AssertionError("never refused")


# -- options ------------------------------------------------------------------------------------------------------


@pytest.mark.core
@sizes
async def test_if_version_appends_only_to_what_was_read(store: AsyncContextStore, look: Look, size: str) -> None:
    """A stale version is refused with the actual one and changes nothing; the right one goes through."""
    one = await store.preserve("s", {"log": []})
    await store.handoff(one.context_id, "a", "b")
    await store.restore(one.context_id)
    before = look.dump()
    for stale in (0, 1, 3):
        with pytest.raises(VersionConflict) as caught:
            await store.append(one.context_id, ("log",), [SIZES[size]], if_version=stale)
        assert caught.value.fields["actual"] == 2
    assert_same(before, look.dump())
    assert (await store.append(one.context_id, ("log",), [SIZES[size]], if_version=2)).version == 3


@sizes
async def test_the_deadline_stays_unless_a_ttl_is_given(make: MakesStores, look: Look, size: str) -> None:
    """Without a ttl no deadline moves; with one every key of the context gets the new one, and the session knows."""
    store = make(inline_body_bytes=1000)
    one = await store.preserve("s", {"log": []}, ttl=600)
    await store.handoff(one.context_id, "a", "b")
    for ttl in (None, 1200, None, 60):
        done = await store.append(one.context_id, ("log",), [1, SIZES[size]], ttl=ttl)
        await store.append(one.context_id, ("log",), [2])
        known = await store.metadata(one.context_id)
        if ttl:
            assert known.ttl_ms == ttl * 1000
        wanted = one.expires_ms if ttl is None else done.expires_ms
        keys = {k: v.deadline_ms for k, v in look.dump().items() if one.context_id.encode() in k}
        assert len(keys) == 5
        assert set(keys.values()) == {wanted} == {known.expires_ms}
        one = await _same_deadline(store, one, wanted)
    assert [m.context_id async for m in store.list(session_id="s")] == [one.context_id]
    assert (await store.check()).sound
    with pytest.raises(InvalidArgument, match="ttl"):
        await store.append(one.context_id, ("log",), [1], ttl=1)


async def _same_deadline(store: AsyncContextStore, one: Any, wanted: int) -> Any:
    known = await store.metadata(one.context_id)
    assert known.expires_ms == wanted
    return known


@pytest.mark.parametrize("size", [100, 5000])
async def test_a_full_tenant_refuses_growth(make: MakesStores, look: Look, size: int) -> None:
    """Under reject an append over the tenant's bytes is refused and changes nothing; the accounts are exact."""
    store = make(max_tenant_bytes=6000, inline_body_bytes=1000)
    one = await store.preserve("s", {"log": []})
    done, refusal = await _until_refused(store, one.context_id, lambda: urandom(size))
    assert type(refusal) is StoreFull
    assert refusal.fields == {"scope": "bytes", "limit": 6000}
    before = look.dump()
    with pytest.raises(StoreFull):
        await store.append(one.context_id, ("log",), [urandom(size)])
    assert_same(before, look.dump())
    assert len((await _read(store, one.context_id))["log"]) == done
    stats, known = await store.stats(), await store.metadata(one.context_id)
    assert stats.bytes == known.stored_bytes <= 6000
    assert (await store.check()).sound


@pytest.mark.core
@pytest.mark.parametrize("policy", ["evict_oldest", "evict_lru"])
@pytest.mark.parametrize("size", [600, 3000])
async def test_growth_evicts_others_and_never_itself(make: MakesStores, look: Look, policy: str, size: int) -> None:
    """Where the policy allows it, the oldest others make room; the one that grows stays though it is the oldest."""
    store = make(max_tenant_bytes=6000, eviction_policy=policy, inline_body_bytes=1000)
    one = await store.preserve("s", {"log": []})
    made: list[Any] = []
    for _ in range(4):
        wait_until(lambda: look.now_ms() > (made or [one])[-1].created_ms, what="the next millisecond")
        made.append(await store.preserve("s", {"x": urandom(1280)}, compression="none"))
    evicted = 0
    for _ in range(3600 // size):
        evicted += (await store.append(one.context_id, ("log",), [urandom(size)])).evicted
    assert evicted > 0
    for gone in made[:evicted]:
        with pytest.raises(ContextEvicted):
            await store.restore(gone.context_id)
    assert not [key for key in look.dump() if made[0].context_id.encode() in key]
    assert len((await _read(store, one.context_id))["log"]) == 3600 // size
    assert (await store.stats()).bytes <= 6000
    assert (await store.check()).sound


async def test_what_can_never_fit_evicts_nobody(make: MakesStores, look: Look) -> None:
    """An append that would make one context larger than the tenant may be is refused, whatever the policy."""
    store = make(max_tenant_bytes=3000, eviction_policy="evict_lru")
    one = await store.preserve("s", {"log": []})
    await store.preserve("s", {"x": bytes(400)}, compression="none")
    before = look.dump()
    with pytest.raises(StoreFull, match="3000 bytes"):
        await store.append(one.context_id, ("log",), [urandom(3200)])
    assert_same(before, look.dump())


@pytest.mark.parametrize("shards", [1, 4])
async def test_expired_contexts_do_not_count_against_growth(make: MakesStores, look: Look, shards: int) -> None:
    """A tenant filled by expired contexts takes an append at once, though nobody swept."""
    store = make(shards=shards, max_tenant_bytes=4000 * shards, min_ttl_seconds=1)
    one = await store.preserve("s", {"log": []})
    gone = await store.preserve("s", {"x": bytes(3000)}, ttl=1, compression="none")
    with pytest.raises(StoreFull):
        await store.append(one.context_id, ("log",), [urandom(1600)])
    wait_until(lambda: look.now_ms() > gone.expires_ms, what="the deadline to pass")
    assert (await store.append(one.context_id, ("log",), [urandom(1600)])).version == 2
    assert (await store.check()).sound


async def test_throughput_is_limited(make: MakesStores, look: Look) -> None:
    """Above the tenant's megabits per second an append is refused with the time to wait, and changes nothing."""
    store = make(max_context_throughput_mbps=1)
    one = await store.preserve("s", {"log": [], "x": bytes(400_000)}, compression="none")
    before = look.dump()
    with pytest.raises(Throttled) as caught:
        await store.append(one.context_id, ("log",), [1])
    assert 1_000 < caught.value.fields["retry_after_ms"] < 4_000
    assert_same(before, look.dump())
    await store.set_flag("max_mbps", "0")
    await store.append(one.context_id, ("log",), [1])


@pytest.mark.core
@sizes
async def test_a_paused_tenant_refuses_appends(make: MakesStores, look: Look, size: str) -> None:
    """paused: refused retryably, also by a store that never saw the context; nothing is changed."""
    store = make()
    one = await store.preserve("s", {"log": []})
    await make().set_mode("paused")
    before = look.dump()
    for used in (store, make()):
        with pytest.raises(TenantPaused) as caught:
            await used.append(one.context_id, ("log",), [SIZES[size]])
        assert caught.value.retryable
    assert_same(before, {k: v for k, v in look.dump().items() if b":stage:" not in k})


@pytest.mark.core
@pytest.mark.parametrize("by", ["argument", "tenant"])
@sizes
async def test_a_dry_run_answers_as_live_and_changes_nothing(make: MakesStores, look: Look, by: str, size: str) -> None:
    """The dry answer is that of the live append that follows, marked; the full dump stays as it was."""
    store = make()
    one = await store.preserve("s", {"log": []})
    await store.append(one.context_id, ("log",), [0])
    if by == "tenant":
        await store.set_mode("dry_run")
    before = look.dump()
    for used in (store, make()):
        for ttl in (None, 90):
            dry = await used.append(one.context_id, ("log",), [SIZES[size]], ttl=ttl, dry_run=by == "argument" or None)
            assert (dry.dry_run, dry.version, dry.sequence, dry.incarnation) == (True, 3, 3, one.incarnation)
            assert_same(before, look.dump())
    if by == "tenant":
        await store.set_mode("live")
    live = await store.append(one.context_id, ("log",), [SIZES[size]])
    assert (live.dry_run, live.version) == (False, 3)
    assert await _read(store, one.context_id) == {"log": [0, SIZES[size]]}


@pytest.mark.parametrize("by", ["argument", "tenant"])
@pytest.mark.parametrize("limits", [{"max_segments": 2}, {"max_context_size_bytes": 900}])
async def test_a_dry_run_folds_nothing(make: MakesStores, look: Look, by: str, limits: dict[str, int]) -> None:
    """Where live would have to fold first, the dry run says what live says after that, and folds nothing."""
    store = make(**limits)
    one = await store.preserve("s", {"log": [], "x": bytes(300)})
    await store.patch(one.context_id, {"x": b"1" * 300})
    await store.patch(one.context_id, {"x": b"2" * 10})
    if by == "tenant":
        await store.set_mode("dry_run")
    before = look.dump()
    dry = await store.append(one.context_id, ("log",), [bytes(250)], dry_run=by == "argument" or None)
    assert (dry.dry_run, dry.version) == (True, 4)
    assert_same(before, look.dump())


async def test_a_dry_append_that_is_too_large_says_so(make: MakesStores, look: Look) -> None:
    """The limit is told by a dry run as by a live append."""
    store = make(max_context_size_bytes=900)
    one = await store.preserve("s", {"log": []})
    await store.append(one.context_id, ("log",), [bytes(500)])
    before = look.dump()
    with pytest.raises(ContextTooLarge):
        await store.append(one.context_id, ("log",), [bytes(500)], dry_run=True)
    assert_same(before, look.dump())


# -- request ids --------------------------------------------------------------------------------------------------


Since = Callable[[ContextStore, str], object]
SINCE: dict[str, Since] = {
    "nothing": lambda _s, _c: None,
    "more": lambda s, c: s.append(c, ("log",), ["more"]),
    "the path is gone": lambda s, c: s.patch(c, {"log": None}),
    "the path is a text": lambda s, c: s.patch(c, {"log": "text"}),
    "replaced": lambda s, c: s.preserve("s", {"other": 1}, context_id=c),
    "dropped": lambda s, c: s.drop(c),
    "dropped and made again": lambda s, c: (s.drop(c), s.preserve("t", {"log": []}, context_id=c)),
    "paused": lambda s, _: s.set_mode("paused"),
}


@pytest.mark.parametrize("since", SINCE)
@sizes
async def test_a_repeat_returns_the_first_answer_whatever_happened_since(
    make: MakesStores, other: ContextStore, look: Look, since: str, size: str
) -> None:
    """The same request id and arguments, by the same process and by another one: the first answer, and no effect."""
    store = make()
    one = await store.preserve("s", {"log": []})
    ask: dict[str, Any] = {"path": ("log",), "items": [SIZES[size], 2], "if_version": 1, "request_id": "r"}
    first = await store.append(one.context_id, **ask)
    SINCE[since](other, one.context_id)
    before = look.dump()
    for used in (store, make()):
        assert await used.append(one.context_id, **ask) == first
        assert_same(before, {k: v for k, v in look.dump().items() if b":stage:" not in k})


@pytest.mark.core
async def test_a_request_id_stands_for_one_set_of_arguments(store: AsyncContextStore, look: Look) -> None:
    """Other items, another path, context, method or version under the same id: refused, nothing is changed."""
    one, two = await store.preserve("s", {"log": [], "b": []}), await store.preserve("s", {"log": []})
    await store.append(one.context_id, ("log",), [1], request_id="r")
    before = look.dump()
    for ask in (
        lambda: store.append(one.context_id, ("log",), [2], request_id="r"),
        lambda: store.append(one.context_id, ("log",), [1, 2], request_id="r"),
        lambda: store.append(one.context_id, ("b",), [1], request_id="r"),
        lambda: store.append(one.context_id, ("log",), [1], if_version=2, request_id="r"),
        lambda: store.append(one.context_id, ("log",), [1], ttl=90, request_id="r"),
        lambda: store.append(two.context_id, ("log",), [1], request_id="r"),
        lambda: store.patch(one.context_id, {"log": [1]}, request_id="r"),
        lambda: store.drop(one.context_id, request_id="r"),
    ):
        with pytest.raises(RequestReused):
            await ask()
    assert_same(before, look.dump())


# -- where there is nothing ---------------------------------------------------------------------------------------


@pytest.mark.core
@pytest.mark.parametrize("how", [ContextNotFound, ContextExpired, ContextDropped])
@sizes
async def test_what_is_not_there_is_not_appended_to(
    make: MakesStores, look: Look, how: type[LukhasRedisError], size: str
) -> None:
    """The reason of the absence is told by a store that knew the context and by one that did not; nothing appears."""
    store = make(min_ttl_seconds=1)
    cid = str(uuid4())
    if how is not ContextNotFound:
        one = await store.preserve("s", {"log": []}, context_id=cid, ttl=1)
        await store.append(cid, ("log",), [1])
        if how is ContextDropped:
            await store.drop(cid)
        else:
            wait_until(lambda: look.now_ms() > one.expires_ms, what="the deadline to pass")
    for used in (store, make(min_ttl_seconds=1)):
        with pytest.raises(how) as caught:
            await used.append(cid, ("log",), [SIZES[size]])
        assert type(caught.value) is how
    assert not [k for k in look.dump() if cid.encode() in k and b":stage:" not in k]


# -- side effects -------------------------------------------------------------------------------------------------


@pytest.mark.core
@sizes
async def test_an_append_is_one_event_one_version_and_sound_accounts(make: MakesStores, size: str) -> None:
    """Events, totals, lifecycle, metadata and listing tell of the appends; the check finds nothing."""
    store = make(near_cache="off")
    one = await store.preserve("s", {"log": []})
    for _ in range(3):
        await store.append(one.context_id, ("log",), [SIZES[size]])
    known = await store.metadata(one.context_id)
    assert (known.version, known.sequence, known.created_ms) == (4, 4, one.created_ms)
    assert known.segments == (3 if size == "small" else 0)
    told = [(e.event, e.version) for e in await store.events() if e.context_id == one.context_id]
    assert sorted(told) == [
        ("context.append", 2),
        ("context.append", 3),
        ("context.append", 4),
        ("context.preserve", 1),
    ]
    assert [m.version async for m in store.list()] == [4]
    life = await store.lifecycle(one.context_id)
    assert life.invariants is not None
    assert life.state_transitions is not None
    assert life.invariants.model_dump() == dict.fromkeys(life.invariants.model_dump(), True)
    assert len(life.state_transitions) >= 4
    stats = await store.stats()
    assert (stats.totals["appended"], stats.totals["preserved"]) == (3, 1)
    assert stats.bytes == known.stored_bytes
    assert (await store.check()).sound


async def test_a_handoff_between_appends_disturbs_neither(store: AsyncContextStore, look: Look) -> None:
    """The version counts both; the append after it needs no look at the data; owner and hops stay."""
    one = await store.preserve("s", {"log": []})
    await store.append(one.context_id, ("log",), [1])
    await store.handoff(one.context_id, "a", "b")
    done = await store.append(one.context_id, ("log",), [2])
    assert (done.version, done.sequence) == (4, 3)
    found = await store.restore(one.context_id)
    assert (found.data, found.metadata.owner, found.metadata.hop_count) == ({"log": [1, 2]}, "b", 1)


async def test_a_pinned_context_stays_out_of_the_order(store: AsyncContextStore, look: Look) -> None:
    """Appending to a pinned context does not make it a candidate for eviction again."""
    one = await store.preserve("s", {"log": []})
    await store.pin(one.context_id)
    await store.append(one.context_id, ("log",), [1])
    assert look.command("ZSCORE", look.keys.order, one.context_id) is None
    assert (await store.check()).sound


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_many_appenders_lose_and_double_nothing(make: MakesStores, shards: int) -> None:
    """Eight workers with fifty appends each: every item exactly once, each worker's in its order, one version each."""
    stores = [make(shards=shards, near_cache="on" if n % 2 else "off", max_segments=100) for n in range(4)]
    one = await stores[0].preserve("s", {"log": [], "n": 0})

    async def work(worker: int) -> list[Appended]:
        store = stores[worker % 4]
        return [await store.append(one.context_id, ("log",), [(worker, n)]) for n in range(50)]

    done = [a for group in await asyncio.gather(*map(work, range(8))) for a in group]
    assert sorted(a.version for a in done) == list(range(2, 402))
    for store in stores:
        found = (await store.restore(one.context_id)).data["log"]
        assert Counter(found) == Counter((worker, n) for worker in range(8) for n in range(50))
        assert all([n for w, n in found if w == worker] == list(range(50)) for worker in range(8))
    told = [
        e for n in range(shards) for e in await stores[0].events(count=1000, shard=n) if e.event == "context.append"
    ]
    assert Counter(e.version for e in told) == Counter(range(2, 402))
    stats = await stores[0].stats()
    assert (stats.totals["appended"], stats.live) == (400, 1)
    assert (await stores[0].check()).sound
    life = await stores[0].lifecycle(one.context_id)
    assert life.invariants is not None
    assert life.invariants.single_store_source


async def test_large_and_small_appends_mix_without_loss(make: MakesStores) -> None:
    """Writers of the whole and writers of segments at once: each item once, each worker's in order."""
    stores = [make(inline_body_bytes=400) for _ in range(2)]
    one = await stores[0].preserve("s", {"log": []})

    async def work(worker: int) -> None:
        for n in range(12):
            await stores[worker % 2].append(one.context_id, "/log", [(worker, n, bytes(500 if n % 4 == 0 else 5))])

    await asyncio.gather(*map(work, range(4)))
    found = [(w, n) for w, n, _ in (await _read(stores[0], one.context_id))["log"]]
    assert Counter(found) == Counter((w, n) for w in range(4) for n in range(12))
    assert all([n for w, n in found if w == worker] == list(range(12)) for worker in range(4))
    assert (await stores[0].metadata(one.context_id)).version == 49
    assert (await stores[0].check()).sound


# -- other workers that change the structure ----------------------------------------------------------------------


Change = Callable[[ContextStore, str], object]
CHANGES: dict[str, tuple[Change, Any]] = {
    "deleted": (lambda s, c: s.patch(c, {"a": None}), None),
    "a scalar": (lambda s, c: s.patch(c, {"a": 5}), 5),
    "a shorter list": (lambda s, c: s.patch(c, {"a": []}), []),
    "a list of scalars": (lambda s, c: s.patch(c, {"a": [7, 8]}), [7, 8]),
    "a dict with the same names": (lambda s, c: s.patch(c, {"a": {"0": {"b": []}, "1": {"b": [1]}}}), None),
    "written whole": (lambda s, c: s.preserve("s", {"a": "text"}, context_id=c), "text"),
    "another incarnation": (lambda s, c: (s.drop(c), s.preserve("s", {"a": {}}, context_id=c)), {}),
    "the same elsewhere": (lambda s, c: s.patch(c, {"z": [1]}), None),
}
OLD: dict[str, Any] = {"a": [{"b": [0]}, {"b": [1]}]}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("path", [("a", 1, "b"), "/a/1/b", ("a",)], ids=str)
@pytest.mark.parametrize("near", ["on", "off"])
async def test_a_stale_look_never_poisons_a_context(
    make: MakesStores, other: ContextStore, change: str, path: Any, near: str
) -> None:
    """Between every two steps of an append another worker changes what the path leads through: the append lands on a
    list or is refused, and every reader goes on reading what the change left."""
    store = make(near_cache=near, inline_body_bytes=200)
    act, _ = CHANGES[change]
    for size in (5, 300):
        for warm in (True, False):
            for after in range(6):
                one = await store.preserve("s", OLD)
                cid = one.context_id
                if not warm:
                    store._space.seen.forget(cid)
                    store._space.near.forget(cid)
                op = ops.append(store._space, cid, path, [bytes(size)])
                try:
                    done = await _run(store, between(op, after, lambda cid=cid: act(other, cid)))  # type: ignore[misc]
                except InvalidPath:
                    done = None
                found = other.restore(cid, touch=False)
                assert await _read(store, cid) == found.data
                assert (bytes(size) in _flat(found.data)) <= (done is not None)
                assert await store.append(cid, ("more",), [1]) if "more" in found.data else True
    assert (await store.check()).sound


async def _run(store: AsyncContextStore, op: Any) -> Any:
    return await store.run(op)


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [one for item in value for one in _flat(item)] if isinstance(value, list) else [value]


@sizes
async def test_another_incarnation_with_the_same_version_is_not_overwritten(
    make: MakesStores, other: ContextStore, size: str
) -> None:
    """The context is dropped and made again with the same version under way: the new one keeps what it has."""
    store = make()
    for after in range(8):
        one = await store.preserve("s", {"log": ["old"]})
        cid = one.context_id

        def act(cid: str = cid) -> None:
            other.drop(cid)
            other.preserve("s", {"log": ["new"]}, context_id=cid)

        await _run(store, between(ops.append(store._space, cid, "/log", [SIZES[size]]), after, act))
        made_again = other.metadata(cid).incarnation != one.incarnation
        found = other.restore(cid).data["log"]
        assert found in (["new", SIZES[size]], ["new"]) if made_again else found == ["old", SIZES[size]]


@pytest.mark.parametrize("size", [5, 300])
async def test_if_version_holds_whoever_comes_between(make: MakesStores, other: ContextStore, size: int) -> None:
    """Another append between any two steps: with if_version ours is refused, and the other one is never lost."""
    store = make(inline_body_bytes=200)
    for given in (1, 2):
        for after in range(8):
            cid = (await store.preserve("s", {"log": []})).context_id
            op = ops.append(store._space, cid, "/log", [bytes(size)], if_version=given)
            acted: list[int] = []
            act = lambda cid=cid, acted=acted: acted.append(other.append(cid, "/log", ["other"]).version)  # noqa: E731
            try:
                done = await _run(store, between(op, after, act))
            except VersionConflict:
                done = None
            found = other.restore(cid).data["log"]
            assert found.count("other") == len(acted)
            assert found.count(bytes(size)) == (done is not None)
            assert done is None or done.version == given + 1


@pytest.mark.parametrize("after", range(4))
@pytest.mark.parametrize("near", ["on", "off"])
async def test_data_that_changes_while_it_is_preserved_is_not_believed(
    make: MakesStores, near: str, after: int
) -> None:
    """What the caller does to his data after the call does not decide which lists are there."""
    store = make(near_cache=near)
    data: dict[str, Any] = {"text": "x", "log": []}

    def act() -> None:
        data.update(text=[], late=[])
        del data["log"]

    one = await _run(store, between(ops.preserve(store._space, "s", data), after, act))
    for name in ("text", "late"):
        with pytest.raises(InvalidPath):
            await store.append(one.context_id, (name,), [1])
    await store.append(one.context_id, ("log",), [1])
    assert await _read(make(), one.context_id) == {"text": "x", "log": [1]}


async def test_an_append_costs_no_read_once_the_list_was_seen(make: MakesStores, look: Look) -> None:
    """After preserve, restore or a first append, each append is one script call and reads nothing."""
    maker = make()
    one = await maker.preserve("s", {"log": [], "deep": {"er": []}})
    later = make()
    await later.restore(one.context_id)
    await later.append(one.context_id, "/deep/er", [0])
    for store, path in ((maker, ("log",)), (later, "/log"), (later, "/deep/er")):
        await store.append(one.context_id, ("log",), [1])
        if path == "/log":
            await store.append(one.context_id, path, [1])
        before = _calls(look)
        for n in range(5):
            await store.append(one.context_id, path, [n])
        assert {name: n - before.get(name, 0) for name, n in _calls(look).items() if n != before.get(name, 0)} == {
            "evalsha": 5
        }


def _calls(look: Look) -> dict[str, int]:
    inside = {
        "hget",
        "hmget",
        "hset",
        "lrange",
        "llen",
        "rpush",
        "ltrim",
        "zadd",
        "zcard",
        "zcount",
        "xadd",
        "set",
        "get",
    }
    left_out = inside | {"info", "time", "pexpireat", "unlink", "exists", "ping", "config|get", "client|setinfo"}
    stats: dict[str, Any] = look.command("INFO", "commandstats")
    names = {name.removeprefix("cmdstat_"): int(facts["calls"]) for name, facts in stats.items()}
    return {name: calls for name, calls in names.items() if name not in left_out}
