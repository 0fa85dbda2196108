"""A server at maxmemory: writes are refused and change nothing; reads and whatever frees memory go on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any
from uuid import uuid4

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.errors import OutOfMemory
from lukhas_redis.models import Preserved
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, assert_same, dump, wait_until
from tests.fix_servers import StartsServers

pytestmark = pytest.mark.faults

Ask = Callable[[ContextStore, str], Any]
REFUSED: dict[str, Ask] = {
    "preserve": lambda s, cid: s.preserve("s", {"n": 2, "log": []}, context_id=cid),
    "preserve new": lambda s, _: s.preserve("s", {"n": 2}),
    "preserve large": lambda s, cid: s.preserve(
        "s", {"x": b"a" * 200_000, "log": []}, context_id=cid, compression="none"
    ),
    "handoff": lambda s, cid: s.handoff(cid, "a", "b"),
    "extend": lambda s, cid: s.extend(cid, 7200),
    "pin": lambda s, cid: s.pin(cid),
    "append": lambda s, cid: s.append(cid, ("log",), [1]),
    "append with ttl": lambda s, cid: s.append(cid, ("log",), [1], ttl=90),
    "append large": lambda s, cid: s.append(cid, ("log",), [b"a" * 40_000]),
    "patch": lambda s, cid: s.patch(cid, {"m": 1}),
    "lease": lambda s, cid: s.release(s.lease(cid, "w", 60)),
}
READS: dict[str, Ask] = {
    "restore": lambda s, cid: s.restore(cid),
    "restore_many": lambda s, cid: s.restore_many([cid, str(uuid4())]),
    "metadata": lambda s, cid: s.metadata(cid),
    "lifecycle": lambda s, cid: s.lifecycle(cid),
    "hops": lambda s, cid: s.hops(cid),
    "list": lambda s, _: list(s.list()),
    "stats": lambda s, _: s.stats(),
    "events": lambda s, _: s.events(),
    "check": lambda s, _: s.check(),
    "dry run": lambda s, cid: s.drop(cid, dry_run=True),
}


@pytest.fixture
def full(fresh_server: StartsServers, tenant: str) -> Generator[tuple[RunningServer, ContextStore, list[Preserved]]]:
    """A server whose maxmemory was set below what it holds, after some contexts were stored."""
    server = fresh_server()
    settings = Settings(min_ttl_seconds=1, max_context_throughput_mbps=0)
    with ContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        made = [store.preserve("s", {"n": n, "x": b"x" * 1000, "log": []}) for n in range(20)]
        made += [store.preserve("s", {"x": b"y" * 50_000}, compression="none"), store.preserve("s", {}, ttl=1)]
        for ask in (*REFUSED.values(), *READS.values()):
            ask(store, made[0].context_id)  # every script is loaded and every touch is noted
        wait_until(lambda: store.stats().expired == 1, what="the deadline to pass")
        server.config_set("maxmemory", 1)
        yield server, store, made


def test_writes_are_refused_and_change_nothing(full: tuple[RunningServer, ContextStore, list[Preserved]]) -> None:
    """Every write that needs memory ends in OutOfMemory, which can be retried, and the dump is as before."""
    server, store, made = full
    before = dump(server.admin)
    for name, ask in REFUSED.items():
        with pytest.raises(OutOfMemory, match="maxmemory") as caught:
            ask(store, made[1].context_id)
        assert caught.value.retryable, name
        assert_same(before, dump(server.admin))
    server.config_set("maxmemory", 0)
    for ask in REFUSED.values():
        assert ask(store, made[1].context_id) is not None


def test_reads_go_on(full: tuple[RunningServer, ContextStore, list[Preserved]]) -> None:
    """Whatever only reads answers as ever; noting the read is left out without a word."""
    server, store, made = full
    before = dump(server.admin)
    for ask in READS.values():
        assert ask(store, made[2].context_id) is not None
    assert store.restore(made[3].context_id).data == {"n": 3, "x": b"x" * 1000, "log": []}
    assert store.restore(made[20].context_id).data == {"x": b"y" * 50_000}
    assert_same(before, dump(server.admin))


def test_what_frees_memory_goes_on(full: tuple[RunningServer, ContextStore, list[Preserved]]) -> None:
    """drop, sweep, repair and switching modes work on a full server, and memory is given back."""
    server, store, made = full
    used = int(server.info("memory")["used_memory"])
    assert store.sweep().removed == 1
    for one in made[5:21]:
        store.drop(one.context_id)
    wait_until(lambda: int(server.info("memory")["used_memory"]) < used, what="memory given back")
    server.admin.delete(store._space.keys.root.ctx(made[1].context_id))
    assert store.repair().repaired
    assert store.check().sound
    assert store.set_mode("paused").after == "paused"
    assert store.stats().live == store.stats().totals["entries"]
