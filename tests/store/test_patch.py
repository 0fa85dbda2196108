"""patch: an RFC 7396 merge patch changes a context in place, without anybody reading it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lukhas_redis import AsyncContextStore, ContextStore
from lukhas_redis.errors import (
    ContextDropped,
    ContextNotFound,
    InvalidArgument,
    SerializationError,
    TenantPaused,
    VersionConflict,
)
from lukhas_redis.models import Patched
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, assert_same
from tests.fix_tenants import new_tenant
from tests.store.conftest import Look, MakesStores

DATA: dict[Any, Any] = {"a": {"b": {"c": 1, "d": 2}}, "list": [1, {"x": 1}], "text": "t", 7: {"n": 1}}
LARGE = b"L" * 40_000
# The examples of RFC 7396, appendix A, that are objects.
EXAMPLES: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, section 2, as it stands there."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


@pytest.mark.core
@pytest.mark.parametrize("example", range(len(EXAMPLES)))
async def test_the_examples_of_the_rfc_hold(make: MakesStores, example: int) -> None:
    """Each example of RFC 7396 whose document is an object, read by the store that patched and by another one."""
    store = make(near_cache="on" if example % 2 else "off")
    before, patch, after = EXAMPLES[example]
    one = await store.preserve("s", before)
    done = await store.patch(one.context_id, patch)
    assert type(done) is Patched
    assert (done.version, done.expires_ms, done.incarnation) == (2, one.expires_ms, one.incarnation)
    assert (await store.restore(one.context_id)).data == after
    assert (await make().restore(one.context_id)).data == after


async def test_lists_are_replaced_whole_and_dicts_merged_at_any_depth(store: AsyncContextStore) -> None:
    """None deletes at any depth, a list is never merged, int keys are keys of their own, types come back."""
    one = await store.preserve("s", DATA)
    when, price = datetime(2026, 1, 2, tzinfo=UTC), Decimal("1.10")
    await store.patch(one.context_id, {"a": {"b": {"c": None, "e": when}}, "list": [2], 7: {"m": price}, "7": {1}})
    assert (await store.restore(one.context_id)).data == {
        "a": {"b": {"d": 2, "e": when}},
        "list": [2],
        "text": "t",
        7: {"n": 1, "m": price},
        "7": {1},
    }


trees = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from("abc"), trees, max_size=3)


def test_any_sequence_of_patches_merges_as_the_rfc_says(server: RunningServer) -> None:
    """Patches one after the other, by a store with a near cache and read through views, equal the RFC's own text."""
    with (
        ContextStore.connect(server.url, tenant=(tenant := new_tenant()), settings=Settings(near_cache="on")) as near,
        ContextStore.connect(server.url, tenant=tenant, settings=Settings(near_cache="off")) as far,
    ):

        @settings(max_examples=40, deadline=None)
        @given(objects, st.lists(objects.filter(bool), min_size=1, max_size=4))
        def property_holds(data: dict[str, Any], patches: list[dict[str, Any]]) -> None:
            cid = near.preserve("s", data).context_id
            for place, patch in enumerate(patches):
                (far if place % 2 else near).patch(cid, patch)
                data = merged(data, patch)
                assert near.restore(cid, shared=True).data == data
                assert far.restore(cid).data == data

        property_holds()


@pytest.mark.parametrize("patch", [{}, [], None, "a", 5, [("a", 1)]])
async def test_a_patch_is_a_dict_with_something_in_it(store: AsyncContextStore, look: Look, patch: Any) -> None:
    """Anything else is refused before anything is sent: it would replace the context, or do nothing."""
    with pytest.raises(InvalidArgument, match="merge_patch"):
        await store.patch(str(uuid4()), patch)
    assert look.dump() == {}


async def test_what_cannot_be_packed_is_named(store: AsyncContextStore, look: Look) -> None:
    """An unknown type is a typed error with its place in the patch; too deep is one, too."""
    deep: Any = 1
    for _ in range(50):
        deep = {"d": deep}
    for patch, path in (({"a": {"b": object()}}, "/a/b"), ({"x": deep}, "/x")):
        with pytest.raises(SerializationError) as caught:
            await store.patch(str(uuid4()), patch)
        assert caught.value.fields["path"].startswith(path)
    assert look.dump() == {}


async def test_a_patch_reads_nothing(make: MakesStores, look: Look) -> None:
    """A store that never saw the context patches it without fetching body or segments."""
    one = await make().preserve("s", {"x": LARGE, "n": 0}, compression="none")
    store = make()
    await store.stats()
    got: list[int] = []
    for n in range(3):
        before = _reads(look)
        await store.patch(one.context_id, {"n": n, f"k{n}": [n]})
        got.append(_reads(look) - before)
    assert got == [0, 0, 0]
    assert (await store.restore(one.context_id)).data["n"] == 2


def _reads(look: Look) -> int:
    stats: dict[str, Any] = look.command("INFO", "commandstats")
    return sum(int(stats[name]["calls"]) for name in ("cmdstat_lrange", "cmdstat_hgetall") if name in stats)


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_patches_of_different_keys_at_once_all_survive(make: MakesStores, shards: int) -> None:
    """Forty writers with a key each, small and large, in four stores: every key is there, one version each."""
    stores = [make(shards=shards, near_cache="on" if n % 2 else "off", inline_body_bytes=500) for n in range(4)]
    one = await stores[0].preserve("s", {"deep": {"log": []}})

    async def patch(n: int) -> int:
        value = b"x" * (600 if n % 10 == 0 else 5)
        done = await stores[n % 4].patch(one.context_id, {f"k{n}": n, "deep": {f"d{n}": value}})
        return done.version

    versions = await asyncio.gather(*map(patch, range(40)))
    assert sorted(versions) == list(range(2, 42))
    for store in stores:
        found = (await store.restore(one.context_id)).data
        assert {found[f"k{n}"] for n in range(40)} == set(range(40))
        assert found["deep"].keys() == {"log", *(f"d{n}" for n in range(40))}
    assert (await stores[0].stats()).totals["patched"] == 40
    assert (await stores[0].check()).sound


async def test_patches_and_appends_at_once_all_survive(make: MakesStores) -> None:
    """Patches that change the structure force appenders to look again, and nobody loses anything."""
    stores = [make(near_cache="on" if n % 2 else "off") for n in range(2)]
    one = await stores[0].preserve("s", {"log": []})

    async def work(n: int) -> None:
        for step in range(10):
            if n % 2:
                await stores[n % 4 // 2].append(one.context_id, "/log", [(n, step)])
            else:
                await stores[n % 4 // 2].patch(one.context_id, {f"k{n}": [step]})

    await asyncio.gather(*map(work, range(8)))
    found = (await stores[0].restore(one.context_id)).data
    assert sorted(found["log"]) == sorted((n, step) for n in range(1, 8, 2) for step in range(10))
    assert [found[f"k{n}"] for n in range(0, 8, 2)] == [[9]] * 4


@pytest.mark.core
@pytest.mark.parametrize("value", [1, LARGE], ids=["small", "large"])
async def test_the_options_are_those_of_append(make: MakesStores, look: Look, value: Any) -> None:
    """if_version, dry run, ttl, a repeat of the request, a pause and absence: as for every other write."""
    store = make()
    one = await store.preserve("s", {"n": 0})
    before = look.dump()
    with pytest.raises(VersionConflict):
        await store.patch(one.context_id, {"n": value}, if_version=2)
    dry = await store.patch(one.context_id, {"n": value}, ttl=90, dry_run=True)
    assert (dry.dry_run, dry.version) == (True, 2)
    assert_same(before, look.dump())
    first = await store.patch(one.context_id, {"n": value}, if_version=1, ttl=90, request_id="r")
    keys = {k: v.deadline_ms for k, v in look.dump().items() if one.context_id.encode() in k}
    assert set(keys.values()) == {first.expires_ms}
    await store.patch(one.context_id, {"n": 5})
    before = look.dump()
    assert await make().patch(one.context_id, {"n": value}, if_version=1, ttl=90, request_id="r") == first
    await store.set_mode("paused")
    with pytest.raises(TenantPaused):
        await store.patch(one.context_id, {"n": value})
    await store.set_mode("live")
    assert (await store.restore(one.context_id)).data == {"n": 5}
    await store.drop(one.context_id)
    for used, wanted in ((store, one.context_id), (make(), str(uuid4()))):
        with pytest.raises(ContextDropped if wanted == one.context_id else ContextNotFound):
            await used.patch(wanted, {"n": value})


async def test_a_patch_that_keeps_the_structure_needs_no_new_look(make: MakesStores, look: Look) -> None:
    """Replacing a scalar by a scalar while the view is held leaves every known list known."""
    store = make(near_cache="on")
    one = await store.preserve("s", {"n": 0, "log": []})
    await store.restore(one.context_id, shared=True)
    await store.append(one.context_id, ("log",), [0])
    shape = look.command("HGET", look.keys.ctx(one.context_id), "shape")
    await store.patch(one.context_id, {"n": 1})
    assert look.command("HGET", look.keys.ctx(one.context_id), "shape") == shape
    await store.patch(one.context_id, {"m": 1})
    assert look.command("HGET", look.keys.ctx(one.context_id), "shape") != shape


async def test_replacing_one_value_again_and_again_never_fills_the_context(make: MakesStores) -> None:
    """What patches have replaced does not count for the size limit: folding takes it away."""
    store = make(max_context_size_bytes=4000)
    one = await store.preserve("s", {"x": b""})
    for n in range(30):
        await store.patch(one.context_id, {"x": bytes([n]) * 1500})
    assert (await store.restore(one.context_id)).data == {"x": bytes([29]) * 1500}
    assert (await store.stats()).totals["folded"] > 0
    assert (await store.check()).sound
