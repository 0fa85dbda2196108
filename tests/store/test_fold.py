"""fold: many segments become one body, and nobody can tell but by the cost.

What belongs here: when it happens, what stays as it was, and who else writes meanwhile. What does not: the script.
"""

from __future__ import annotations

import asyncio
import threading
from os import urandom
from typing import Any

import pytest

from lukhas_redis import AsyncContextStore, ContextStore, ops
from lukhas_redis.calls import Op, Refused
from lukhas_redis.models import Metadata
from lukhas_redis.ops.folding import fold
from lukhas_redis.ops.reading import read
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings
from lukhas_redis.testing import difference
from tests.fix_farm import Topology
from tests.store.conftest import Look, MakesStores
from tests.store.racing import between


def folded(space: Space, context_id: str) -> Op[bool]:
    """What a reader does when it is due: read, and fold what was read."""
    found = yield from read(space, context_id)
    return (yield from fold(space, context_id, found.held, found.metadata))


async def _fold(store: AsyncContextStore, context_id: str) -> bool:
    return bool(await store.run(folded(store._space, context_id)))


async def _grown(store: AsyncContextStore, count: int, **data: Any) -> str:
    one = await store.preserve("s", {"log": [], **data})
    for n in range(count):
        await store.append(one.context_id, ("log",), [n])
    return one.context_id


def _without(known: Metadata, *names: str) -> dict[str, Any]:
    fields = {name: getattr(known, name) for name in Metadata.__dataclass_fields__}
    return {name: value for name, value in fields.items() if name not in ("now_ms", *names)}


@pytest.mark.core
@pytest.mark.parametrize("near", ["on", "off"])
async def test_segments_that_outgrew_the_body_are_folded_by_a_reader(make: MakesStores, near: str) -> None:
    """Appends larger than the body, and over 16 kB: the next restore folds them, and data and version stay."""
    store = make(near_cache=near)
    one = await store.preserve("s", {"log": []})
    items = [urandom(3000) for _ in range(8)]
    for item in items:
        await store.append(one.context_id, ("log",), [item])
    before = await store.metadata(one.context_id)
    assert before.segments == 8
    first = await store.restore(one.context_id)
    after = await store.metadata(one.context_id)
    assert after.segments == 0
    assert first.data == (await store.restore(one.context_id)).data == {"log": items}
    assert (first.version, after.version, after.sequence, after.chain) == (9, 9, 9, before.chain)
    assert (await store.stats()).totals["folded"] == 1
    assert (await store.check()).sound


async def test_few_small_segments_stay(store: AsyncContextStore) -> None:
    """A restore does not rewrite a context for a few hundred bytes."""
    cid = await _grown(store, 20)
    await store.restore(cid)
    assert (await store.metadata(cid)).segments == 20
    assert "folded" not in (await store.stats()).totals


@pytest.mark.parametrize("most", [2, 3, 7])
@pytest.mark.parametrize("kind", ["append", "patch"])
async def test_there_are_never_more_segments_than_allowed(make: MakesStores, most: int, kind: str) -> None:
    """At max_segments the writer folds first; nothing is lost, and readers that never fold keep up."""
    store, reader = make(max_segments=most), make(max_segments=1000)
    one = await store.preserve("s", {"log": []})
    for n in range(20):
        if kind == "append":
            await store.append(one.context_id, ("log",), [n])
        else:
            await store.patch(one.context_id, {f"k{n}": n})
        assert (await store.metadata(one.context_id)).segments <= most
    found = await reader.restore(one.context_id)
    keys = {"log": list(range(20))} if kind == "append" else {"log": [], **{f"k{n}": n for n in range(20)}}
    assert (found.data, found.version) == (keys, 21)
    assert (await store.check()).sound


async def test_a_body_that_would_grow_is_no_dead_end(make: MakesStores, look: Look) -> None:
    """Text that shrank as a body and noise that never will: folded it would need more room, yet appends go on."""
    store = make(max_segments=4, near_cache="off")
    one = await store.preserve("s", {"text": "all work and no play " * 200, "log": []}, compression="standard")
    items = [urandom(30_000) for _ in range(10)]
    for item in items:
        await store.append(one.context_id, ("log",), [item])
    assert (await store.restore(one.context_id)).data["log"] == items
    assert (await store.check()).sound


@pytest.mark.core
async def test_nothing_a_reader_can_see_is_changed(make: MakesStores, look: Look) -> None:
    """Data, version, sequence, chain, deadline, owner, hops, pin and lease stay; only the layout is another."""
    store = make(near_cache="off")
    cid = await _grown(store, 6)
    await store.handoff(cid, "a", "b")
    await store.pin(cid)
    lease = await store.lease(cid, "worker", 60)
    before, data, hops = await store.metadata(cid), (await store.restore(cid)).data, await store.hops(cid)
    before = await store.metadata(cid)
    events = await store.events(count=1000)
    layout = ("raw_bytes", "appended_bytes", "stored_bytes", "checksum", "digest", "segments", "level")
    assert await _fold(store, cid)
    after = await store.metadata(cid)
    assert _without(after, *layout) == _without(before, *layout)
    assert after.segments == 0
    assert after.stored_bytes < before.stored_bytes
    assert ((await store.restore(cid)).data, await store.hops(cid)) == (data, hops)
    assert await store.events(count=1000) == events
    deadlines = {k: v.deadline_ms for k, v in look.dump().items() if cid.encode() in k}
    assert set(deadlines.values()) == {before.expires_ms}
    assert (await store.append(cid, ("log",), ["after"], lease=lease)).version == before.version + 1
    assert (await store.restore(cid)).data == {"log": [*range(6), "after"]}
    assert (await store.check()).sound


async def test_the_accounts_are_exact_after_a_fold(make: MakesStores) -> None:
    """Bytes of the tenant are those of the new body, and folding again changes nothing."""
    store = make(near_cache="off")
    cid = await _grown(store, 50)
    assert await _fold(store, cid)
    stats, known = await store.stats(), await store.metadata(cid)
    assert stats.bytes == known.stored_bytes
    assert not await _fold(store, cid)
    assert (await store.stats()).totals["folded"] == 1
    checked = await store.check()
    assert (checked.sound, checked.bytes_off, checked.entries_off) == (True, 0, 0)


@pytest.mark.core
async def test_near_caches_stay_valid_over_a_fold(make: MakesStores) -> None:
    """Who holds the data does not fetch it again after a fold by another worker, and reads appends after it."""
    holder, worker = make(near_cache="on"), make(near_cache="off")
    cid = await _grown(worker, 5)
    view = (await holder.restore(cid, shared=True, touch=False)).data
    assert await _fold(worker, cid)
    again = await holder.restore(cid, shared=True, touch=False)
    assert (again.cache_hit, again.data is view) == (True, True)
    await worker.append(cid, ("log",), ["x"])
    grown = await holder.restore(cid, touch=False)
    assert (grown.cache_hit, grown.data) == (True, {"log": [*range(5), "x"]})


async def test_a_known_list_stays_known_over_a_fold(make: MakesStores, look: Look) -> None:
    """Folding changes no structure: the next append of another process is accepted without a look."""
    maker, worker = make(), make()
    cid = await _grown(maker, 5)
    assert await _fold(worker, cid)
    before = _hgetalls(look)
    await maker.append(cid, ("log",), ["x"])
    assert _hgetalls(look) == before


def _hgetalls(look: Look) -> int:
    stats: Any = look.command("INFO", "commandstats")
    return int(stats.get("cmdstat_hgetall", {"calls": 0})["calls"])


async def test_two_folders_at_once_do_no_harm(make: MakesStores) -> None:
    """Of many that fold the same state one does; all read the same afterwards."""
    stores = [make(near_cache="on" if n % 2 else "off") for n in range(6)]
    cid = await _grown(stores[0], 10)
    done = await asyncio.gather(*(_fold(store, cid) for store in stores))
    assert sum(done) == 1
    for store in stores:
        assert (await store.restore(cid)).data == {"log": list(range(10))}
    assert (await stores[0].check()).sound


@pytest.mark.parametrize("write", ["append", "patch", "preserve", "drop", "handoff", "fold"])
@pytest.mark.parametrize("body", [10, 60_000])
async def test_whoever_writes_while_it_is_folded_wins(
    make: MakesStores, topology: Topology, tenant: str, write: str, body: int
) -> None:
    """Another worker writes between any two steps of a fold: it is there, and the fold was none or is under it."""
    with ContextStore.connect(topology.url, tenant=tenant, settings=Settings(max_context_throughput_mbps=0)) as other:
        for after in range(6):
            store = make(near_cache="off", inline_body_bytes=1000)
            cid = await _grown(store, 4, x=urandom(body))
            x = (await store.restore(cid)).data["x"]
            acts: dict[str, Any] = {
                "append": lambda cid=cid: other.append(cid, "/log", ["new"]),
                "patch": lambda cid=cid: other.patch(cid, {"log": ["new"]}),
                "preserve": lambda cid=cid, x=x: other.preserve("s", {"log": ["new"], "x": x}, context_id=cid),
                "drop": lambda cid=cid: other.drop(cid),
                "handoff": lambda cid=cid: other.handoff(cid, "a", "b"),
                "fold": lambda cid=cid: other.run(folded(other._space, cid)),
            }
            acted: list[bool] = []

            def act(act: Any = acts[write], acted: list[bool] = acted) -> None:
                act()
                acted.append(True)

            try:
                await store.run(between(folded(store._space, cid), after, act))
            except Refused:
                assert write == "drop"
            if write == "drop" and acted:
                continue
            wanted = {"append": [0, 1, 2, 3, "new"], "patch": ["new"], "preserve": ["new"]}
            log = wanted.get(write, [0, 1, 2, 3]) if acted else [0, 1, 2, 3]
            assert (await make().restore(cid)).data == {"log": log, "x": x}
        assert other.check().sound


def test_appends_and_folds_in_a_race_lose_nothing(server: Any, tenant: str) -> None:
    """Threads that append, fold and read the same context: every read is a prefix, and all items end up there once."""
    settings = Settings(max_context_throughput_mbps=0, max_segments=50)
    with ContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        cid = store.preserve("s", {"log": []}).context_id
        stop, failures = threading.Event(), []

        def appender() -> None:
            for n in range(400):
                store.append(cid, ("log",), [n])

        def until_stopped(act: Any) -> None:
            try:
                while not stop.is_set():
                    act()
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        def check_prefix(near: str) -> None:
            found = readers[near].restore(cid, touch=False)
            log = found.data["log"]
            assert log == list(range(len(log)))
            assert found.version == len(log) + 1

        readers = {
            near: ContextStore.connect(server.url, tenant=tenant, settings=Settings(near_cache=near))
            for near in ("on", "off")
        }
        acts = [lambda: store.run(folded(store._space, cid))] * 2
        acts += [lambda near=near: check_prefix(near) for near in readers]  # type: ignore[misc]
        threads = [threading.Thread(target=until_stopped, args=(act,)) for act in acts]
        for thread in threads:
            thread.start()
        appender()
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures
        assert store.restore(cid).data == {"log": list(range(400))}
        assert store.check().sound
        for reader in readers.values():
            reader.close()


async def test_a_tenant_in_dry_run_or_paused_is_not_folded(make: MakesStores, look: Look) -> None:
    """A read that would fold changes nothing there, and gives its data all the same."""
    store = make(near_cache="off")
    one = await store.preserve("s", {"log": []})
    for _ in range(8):
        await store.append(one.context_id, ("log",), [bytes(100) + urandom(3000)])
    for mode in ("dry_run", "paused"):
        await store.set_mode(mode)
        before = look.dump()
        assert len((await store.restore(one.context_id)).data["log"]) == 8
        assert [line for line in difference(before, look.dump()) if ":stage:" not in line] == []
    await store.set_mode("live")
    await store.run(ops.restore(store._space, one.context_id))
    assert (await store.metadata(one.context_id)).segments == 0
