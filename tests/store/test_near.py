"""The near cache: what a process holds of contexts, confirmed by the server at every read.

What belongs here: what a reader is given, how old it may be (not at all), how much is held, and what it costs.
What does not: damage of what is stored while it is held (`faults/test_store_segments`).
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable
from os import urandom
from typing import Any

import pytest

from lukhas_redis import AsyncContextStore, ContextStore, ops
from lukhas_redis.errors import ContextDropped, ContextExpired
from lukhas_redis.ops.folding import fold
from lukhas_redis.ops.reading import read
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, wait_until
from tests.store.conftest import Look, MakesStores

DATA: dict[str, Any] = {"log": [{"n": 0}], "deep": {"er": [1, {2, 3}]}, "pair": ([1], 2), "text": "t"}


async def _shared(store: AsyncContextStore, context_id: str) -> Any:
    return await store.restore(context_id, shared=True, touch=False)


# -- what a reader is given ---------------------------------------------------------------------------------------


@pytest.mark.core
async def test_a_shared_view_equals_the_data_and_cannot_be_changed(make: MakesStores) -> None:
    """Every mutator of its dicts, lists and sets raises TypeError at any depth; it stays equal to the data."""
    store = make(near_cache="on")
    one = await store.preserve("s", DATA)
    view = (await _shared(store, one.context_id)).data
    assert view == DATA
    changes: tuple[Callable[[], object], ...] = (
        lambda: view.update(x=1),
        lambda: view.pop("text"),
        lambda: view["log"].append(1),
        view["log"][0].clear,
        view["deep"]["er"].sort,
        lambda: view["deep"]["er"][1].add(1),
        lambda: view["pair"][0].extend([1]),
        lambda: view.__setitem__("x", 1),
        lambda: view["log"].__iadd__([1]),
    )
    for change in changes:
        with pytest.raises(TypeError, match="read-only"):
            change()
    plain = copy.deepcopy(view)
    plain["log"].append(1)
    assert view == DATA


@pytest.mark.core
async def test_what_has_not_changed_is_the_same_object(make: MakesStores) -> None:
    """Two shared reads of an unchanged context give one view, by preserve's own store and by another one."""
    maker, reader = make(near_cache="on"), make(near_cache="on")
    one = await maker.preserve("s", DATA)
    for store in (maker, reader):
        first = (await _shared(store, one.context_id)).data
        assert (await _shared(store, one.context_id)).data is first
        await maker.handoff(one.context_id, "a", "a")
        assert (await _shared(store, one.context_id)).data is first


@pytest.mark.core
@pytest.mark.parametrize("by", ["itself", "another"])
async def test_a_view_that_was_given_never_changes(make: MakesStores, by: str) -> None:
    """Appends, patches and folds by this or another store: the old view and parts of it stay, the new one is newer."""
    reader = make(near_cache="on")
    writer = reader if by == "itself" else make(near_cache="on")
    one = await reader.preserve("s", DATA)
    kept: list[tuple[Any, Any]] = []
    for n in range(6):
        found = await _shared(reader, one.context_id)
        # The whole, only a part of it, or an iterator: whatever is held by somebody must stay.
        held = [found.data, found.data["log"], iter(found.data["log"])][n % 3]
        was = len(found.data["log"])
        del found
        kept.append((held, was))
        await writer.append(one.context_id, ("log",), [{"n": n + 1}])
        if n == 2:
            await writer.patch(one.context_id, {"text": "u", "new": [n]})
    for held, was in kept:
        length = len(held["log"]) if isinstance(held, dict) else len(list(held))
        assert length == was
    newest = (await _shared(reader, one.context_id)).data
    assert newest["log"] == [{"n": n} for n in range(7)]
    assert (newest["text"], newest["new"]) == ("u", [2])


async def test_a_private_copy_belongs_to_its_reader(make: MakesStores) -> None:
    """Changing one restored copy changes neither another copy, nor the view, nor what is stored."""
    store = make(near_cache="on")
    one = await store.preserve("s", DATA)
    await store.append(one.context_id, ("log",), [{"n": 1}])
    view = (await _shared(store, one.context_id)).data
    first = (await store.restore(one.context_id)).data
    first["log"][1]["n"] = 9
    first["log"].append(7)
    first["deep"]["er"][1].add(7)
    second = (await store.restore(one.context_id)).data
    assert second == view == {**DATA, "log": [{"n": 0}, {"n": 1}]}
    assert type(second) is dict
    assert type(second["log"]) is list


@pytest.mark.parametrize(
    "near,kind,held",
    [
        ("off", "conversation", False),
        ("on", "notes", True),
        ("by_type", "conversation", True),
        ("by_type", "notes", False),
    ],
)
async def test_what_is_held_follows_the_setting(make: MakesStores, near: str, kind: str, held: bool) -> None:
    """off: nothing; on: every type; by_type: as the policy of the type says. `cache_hit` tells the reader."""
    policies = {"notes": {"near_cache": False}, "conversation": {"near_cache": True}}
    store = make(near_cache=near, policies=policies)
    one = await make(near_cache="off").preserve("s", DATA, context_type=kind)
    hits = [(await store.restore(one.context_id)).cache_hit for _ in range(3)]
    assert hits == [False, held, held]
    assert (len(store._space.near) > 0) is held


async def test_no_entries_is_no_near_cache(make: MakesStores) -> None:
    """max_cache_size_entries=0 holds nothing, and shared views still come."""
    store = make(near_cache="on", max_cache_size_entries=0)
    one = await store.preserve("s", DATA)
    assert [(await _shared(store, one.context_id)).cache_hit for _ in range(2)] == [False, False]
    assert len(store._space.near) == 0


# -- how old it may be --------------------------------------------------------------------------------------------


Change = Callable[[ContextStore, str], object]


def _refold(store: ContextStore, cid: str) -> Any:
    found = store.run(read(store._space, cid))
    store.run(fold(store._space, cid, found.held, found.metadata))


CHANGES: dict[str, Change] = {
    "append": lambda s, c: s.append(c, ("log",), [1]),
    "large append": lambda s, c: s.append(c, ("log",), [b"L" * 40_000]),
    "patch": lambda s, c: s.patch(c, {"text": "u"}),
    "patch away": lambda s, c: s.patch(c, {"log": None}),
    "preserve": lambda s, c: s.preserve("s", {"new": 1}, context_id=c),
    "handoff": lambda s, c: s.handoff(c, "a", "b"),
    "extend": lambda s, c: s.extend(c, 7200),
    "pin": lambda s, c: s.pin(c),
    "lease": lambda s, c: s.lease(c, "w", 60),
    "release": lambda s, c: s.release(s.lease(c, "w", 60)),
    "touch": lambda s, c: s.restore(c),
    "fold": _refold,
    "append and fold": lambda s, c: (s.append(c, ("log",), [1]), _refold(s, c)),
    "fold and append": lambda s, c: (_refold(s, c), s.append(c, ("log",), [1])),
    "another incarnation": lambda s, c: (s.drop(c), _made_again(s, c)),
}


def _made_again(store: ContextStore, cid: str) -> Any:
    """Another incarnation with the same version, sequence, structure and sizes."""
    store.preserve("s", {**DATA, "text": "x"}, context_id=cid)
    store.append(cid, ("log",), [{"n": 8}])


@pytest.mark.core
@pytest.mark.parametrize("change", CHANGES)
async def test_a_read_is_never_older_than_the_write_before_it(
    make: MakesStores, topology: Any, tenant: str, change: str
) -> None:
    """Whatever another store changed, the next restore of one that held the context equals that of one that did not."""
    holder, fresh = make(near_cache="on"), make(near_cache="off")
    one = await holder.preserve("s", DATA)
    await holder.append(one.context_id, ("log",), [{"n": 1}])
    with ContextStore.connect(topology.url, tenant=tenant, settings=Settings()) as other:
        for _ in range(2):
            await _shared(holder, one.context_id)
            CHANGES[change](other, one.context_id)
            for shared in (True, False):
                ours = await holder.restore(one.context_id, touch=False, shared=shared)
                theirs = await fresh.restore(one.context_id, touch=False)
                assert ours.data == theirs.data
                assert _known(ours) == _known(theirs)
            if change in ("lease", "handoff", "patch away"):
                break


def _known(context: Any) -> dict[str, Any]:
    known = context.metadata
    return {name: getattr(known, name) for name in known.__dataclass_fields__ if name != "now_ms"}


@pytest.mark.core
async def test_what_is_gone_is_not_served(make: MakesStores, look: Look) -> None:
    """Dropped, or past its deadline: the store that held it says so, and holds it no longer."""
    holder, other = make(near_cache="on", min_ttl_seconds=1), make(min_ttl_seconds=1)
    dropped, short = await holder.preserve("s", DATA), await holder.preserve("s", DATA, ttl=1)
    for one in (dropped, short):
        await _shared(holder, one.context_id)
    await other.drop(dropped.context_id)
    with pytest.raises(ContextDropped):
        await holder.restore(dropped.context_id)
    wait_until(lambda: look.now_ms() > short.expires_ms, what="the deadline to pass")
    with pytest.raises(ContextExpired):
        await holder.restore(short.context_id)
    assert len(holder._space.near) == 0


async def test_a_lapsed_lease_is_not_shown_by_a_hit(make: MakesStores, look: Look) -> None:
    """Nothing is written when a lease lapses; the metadata of a hit tells it as ended all the same."""
    store = make(near_cache="on")
    one = await store.preserve("s", DATA)
    held = await store.lease(one.context_id, "w", 0.3)
    known = (await store.restore(one.context_id, touch=False)).metadata.lease
    assert known is not None
    assert (known.token, known.owner) == (held.token, "w")
    wait_until(lambda: look.now_ms() > held.until_ms, what="the lease to lapse")
    after = await store.restore(one.context_id, touch=False)
    assert (after.cache_hit, after.metadata.lease) == (True, None)


@pytest.mark.parametrize("after", range(1, 4))
async def test_a_late_answer_never_takes_the_place_of_a_newer_one(make: MakesStores, after: int) -> None:
    """A read that was on its way while another one learned more leaves nothing older behind, data or metadata."""
    store, other = make(near_cache="on"), make(near_cache="off")
    one = await store.preserve("s", DATA)
    cid = one.context_id
    await store.restore(cid, touch=False)
    await other.append(cid, ("log",), [1])
    slow: Any = ops.restore(store._space, cid, touch=False)
    wanted = next(slow)
    first = await store.run(_asked(wanted))  # the answer of this moment, which waits on its way
    await other.append(cid, ("log",), [2])
    await other.handoff(cid, "a", "b")
    newer = await store.restore(cid, touch=False)
    with pytest.raises(StopIteration) as done:
        slow.send(first)
    assert done.value.value.data["log"] == [{"n": 0}, 1]
    for _ in range(after):
        again = await store.restore(cid, touch=False)
        assert again.data["log"] == [{"n": 0}, 1, 2]
        assert _known(again) == _known(newer)


async def test_metadata_of_a_hit_is_that_which_was_confirmed(make: MakesStores) -> None:
    """Asked with newer metadata, answered SAME, and meanwhile a late answer put the older back: the newer is given."""
    store, other = make(near_cache="on"), make(near_cache="off")
    cid = (await store.preserve("s", DATA)).context_id
    await store.restore(cid, touch=False)
    await other.pin(cid)
    late: Any = ops.restore(store._space, cid, touch=False)
    older = await store.run(_asked(next(late)))
    await other.handoff(cid, "a", "b")
    await store.restore(cid, touch=False)
    asking: Any = ops.restore(store._space, cid, touch=False)
    same = await store.run(_asked(next(asking)))
    assert same[0] == b"SAME"
    with pytest.raises(StopIteration):
        late.send(older)
    with pytest.raises(StopIteration) as done:
        asking.send(same)
    assert (done.value.value.version, done.value.value.metadata.owner) == (2, "b")


def _asked(request: Any) -> Any:
    return (yield request)


async def test_many_readers_and_one_writer_agree(make: MakesStores) -> None:
    """Readers of one store at once, while another appends: each sees a prefix no shorter than the one before."""
    store, writer = make(near_cache="on"), make(near_cache="off")
    one = await writer.preserve("s", {"log": []})
    stop = asyncio.Event()

    async def follow(shared: bool) -> None:
        seen = 0
        while not stop.is_set():
            found = await store.restore(one.context_id, touch=False, shared=shared)
            assert found.data["log"] == list(range(len(found.data["log"])))
            assert len(found.data["log"]) >= seen
            assert found.version == len(found.data["log"]) + 1
            seen = len(found.data["log"])

    readers = [asyncio.create_task(follow(n % 2 == 0)) for n in range(4)]
    for n in range(100):
        await writer.append(one.context_id, ("log",), [n])
    stop.set()
    await asyncio.gather(*readers)


def test_threads_share_one_near_cache(server: RunningServer, tenant: str) -> None:
    """Eight threads restore, append, patch and preserve a few contexts: reads are whole and never go back."""
    settings = Settings(near_cache="on", max_context_throughput_mbps=0, max_cache_size_entries=3, max_segments=20)
    with ContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        ids = [store.preserve("s", {"log": [], "n": 0}).context_id for _ in range(4)]
        failures: list[BaseException] = []

        def work(worker: int) -> None:
            try:
                seen = dict.fromkeys(ids, 0)
                for n in range(60):
                    cid = ids[(worker + n) % 4]
                    if worker % 2:
                        store.append(cid, ("log",), [(worker, n)])
                    if n % 9 == 0:
                        store.patch(cid, {"n": n})
                    found = store.restore(cid, shared=n % 3 > 0)
                    mine = [m for w, m in found.data["log"] if w == worker]
                    assert mine == sorted(mine)
                    assert len(found.data["log"]) >= seen[cid]
                    seen[cid] = len(found.data["log"])
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        with ContextStore.connect(server.url, tenant=tenant) as fresh:
            for cid in ids:
                assert store.restore(cid).data == fresh.restore(cid).data
                assert len(fresh.restore(cid).data["log"]) == 60
        assert store.check().sound


# -- how much is held ---------------------------------------------------------------------------------------------


async def test_the_number_of_held_contexts_is_bounded(make: MakesStores) -> None:
    """Beyond max_cache_size_entries the least recently used one goes."""
    store = make(near_cache="on", max_cache_size_entries=3)
    made = [(await store.preserve("s", {"n": n})).context_id for n in range(3)]
    await store.restore(made[0])
    made.append((await store.preserve("s", {"n": 3})).context_id)
    assert len(store._space.near) == 3
    assert [(await store.restore(cid, touch=False)).cache_hit for cid in (made[0], made[2], made[3])] == [True] * 3
    assert not (await store.restore(made[1], touch=False)).cache_hit


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("touch", [True, False])
async def test_the_memory_of_held_contexts_is_bounded(make: MakesStores, shared: bool, touch: bool) -> None:
    """Serialized bytes and the views made of them stay within max_cache_size_bytes, however they are read."""
    store = make(near_cache="on", max_cache_size_bytes=200_000)
    ids = [(await store.preserve("s", {"log": [{"n": n} for n in range(200)]})).context_id for _ in range(20)]
    for cid in ids:
        for _ in range(2):
            await store.restore(cid, shared=shared, touch=touch)
        await store.append(cid, ("log",), [1])
        await store.restore(cid, shared=shared, touch=touch)
    near = store._space.near
    held = [entry for entry, _ in near._held.values()]
    assert near.bytes <= 200_000
    assert sum(entry.cost for entry in held) <= 200_000
    assert all((entry.view is not None) is shared for entry in held)
    assert held


async def test_what_is_over_the_bound_by_itself_is_not_held(make: MakesStores) -> None:
    """One context larger than all the room pushes nobody out."""
    store = make(near_cache="on", max_cache_size_bytes=50_000)
    small = await store.preserve("s", {"n": 1})
    large = await store.preserve("s", {"x": urandom(60_000)})
    for _ in range(2):
        assert (await store.restore(large.context_id)).data["x"]
    assert (await store.restore(small.context_id)).cache_hit
    assert len(store._space.near) == 1


async def test_a_fold_by_another_store_is_not_tried_again(make: MakesStores, look: Look) -> None:
    """Who holds the segments of a context that others have folded does not fold it again at every read."""
    holder, other = make(near_cache="on"), make(near_cache="off")
    one = await other.preserve("s", {"log": []})
    for _ in range(7):
        await other.append(one.context_id, ("log",), [urandom(3000)])
        await holder.restore(one.context_id)
    await other.append(one.context_id, ("log",), [urandom(3000)])
    await other.restore(one.context_id)
    await holder.restore(one.context_id)
    await holder.restore(one.context_id)
    stats: dict[str, Any] = look.command("INFO", "commandstats")
    before = int(stats["cmdstat_evalsha"]["calls"])
    for _ in range(3):
        assert (await holder.restore(one.context_id)).cache_hit
    stats = look.command("INFO", "commandstats")
    assert int(stats["cmdstat_evalsha"]["calls"]) - before == 3


# -- what it costs ------------------------------------------------------------------------------------------------


def _sent(look: Look) -> int:
    stats: dict[str, Any] = look.command("INFO", "stats")
    return int(stats["total_net_output_bytes"])


async def _cost(look: Look, store: AsyncContextStore, context_id: str, times: int = 20) -> float:
    """Bytes the server sent per restore; what INFO itself sends is measured first."""
    start = _sent(look)
    own = _sent(look) - start
    start = _sent(look)
    for _ in range(times):
        assert (await store.restore(context_id, touch=False)).cache_hit
    return (_sent(look) - start - own) / times


async def test_an_unchanged_context_costs_a_few_bytes(make: MakesStores, look: Look) -> None:
    """A hit on 2 MB answers in under 100 bytes."""
    store = make(near_cache="on")
    one = await store.preserve("s", {"x": urandom(2_000_000)}, compression="none")
    await store.restore(one.context_id)
    await store.restore(one.context_id)
    assert await _cost(look, store, one.context_id) < 100


async def test_a_handoff_of_a_large_context_does_not_make_it_travel_again(make: MakesStores, look: Look) -> None:
    """After a handoff, a pin and an extend by another store only the metadata comes."""
    store, other = make(near_cache="on"), make(near_cache="off")
    one = await store.preserve("s", {"x": urandom(2_000_000)}, compression="none")
    await store.restore(one.context_id)
    await other.handoff(one.context_id, "a", "b")
    await other.pin(one.context_id)
    await other.extend(one.context_id, 7200)
    assert await _cost(look, store, one.context_id, times=1) < 2000


async def test_an_append_by_another_store_costs_what_was_added(make: MakesStores, look: Look) -> None:
    """The large context stays where it is; the segments come."""
    store, other = make(near_cache="on"), make(near_cache="on")
    one = await store.preserve("s", {"x": urandom(500_000), "log": []}, compression="none")
    await other.restore(one.context_id)
    await store.restore(one.context_id)
    for n in range(3):
        await other.append(one.context_id, ("log",), [n])
    assert await _cost(look, store, one.context_id, times=1) < 3000
    assert (await store.restore(one.context_id)).data["log"] == [0, 1, 2]


async def test_ones_own_append_comes_back_for_free(make: MakesStores, look: Look) -> None:
    """After an append of its own the process has the new data already: nothing but metadata is sent."""
    store = make(near_cache="on")
    one = await store.preserve("s", {"x": urandom(500_000), "log": []}, compression="none")
    await store.append(one.context_id, ("log",), [urandom(20_000)])
    assert await _cost(look, store, one.context_id, times=1) < 1500
