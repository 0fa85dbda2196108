"""A batch of the blocking store: what leaves together, in which order, and to whom each result belongs."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from lukhas_redis import ContextStore
from lukhas_redis.batch import Pending
from lukhas_redis.errors import ContextNotFound, InvalidArgument, InvalidId, LukhasRedisError, VersionConflict
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer

Makes = Callable[..., ContextStore]
ABSENT = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def make(server: RunningServer, tenant: str) -> Generator[Makes]:
    """Makes blocking stores of the test's tenant."""
    made: list[ContextStore] = []

    def new(url: str = "", **settings: Any) -> ContextStore:
        chosen = Settings(**{"max_context_throughput_mbps": 0, **settings})
        made.append(ContextStore.connect(url or server.url, tenant=tenant, settings=chosen))
        return made[-1]

    yield new
    for store in made:
        store.close()


@pytest.fixture
def store(make: Makes) -> ContextStore:
    """A blocking store."""
    return make()


def test_many_calls_take_few_round_trips(store: ContextStore, server: RunningServer) -> None:
    """200 preserves and 200 appends, take a few round trips and not 400."""
    first = store.preserve("s", {"turns": []})
    store.append(first.context_id, "/turns", [0])
    evals = _calls(server, "evalsha")
    sends = _count_sends(store)
    with store.batch() as batch:
        kept = [batch.preserve("s", {"turns": [], "n": n}) for n in range(200)]
        added = [batch.append(first.context_id, "/turns", [n]) for n in range(200)]
    assert [pending.result().version for pending in kept] == [1] * 200
    assert [pending.result().version for pending in added] == list(range(3, 203))
    assert _calls(server, "evalsha") - evals == 400
    assert len(sends) <= 4
    assert store.restore(first.context_id).data == {"turns": [0, *range(200)]}


def _calls(server: RunningServer, command: str) -> int:
    return int(server.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0))


def _count_sends(store: ContextStore) -> list[int]:
    """The numbers of commands of every exchange from now on: each is one round trip."""
    from lukhas_redis.transport.sync_links import Link

    link: Any = store._link
    (links,) = link._state().links.values()
    sends: list[int] = []

    class Counting(Link):
        def exchange(self, pieces: list[bytes], count: int, seconds: float) -> Any:
            sends.append(count)
            return super().exchange(pieces, count, seconds)

    for one in links._idle:
        one.__class__ = Counting
    return sends


def test_errors_stay_with_their_own_call(store: ContextStore) -> None:
    """One refused or malformed call of a batch disturbs no other."""
    one = store.preserve("s", {"n": 1})
    with store.batch() as batch:
        good = batch.restore(one.context_id)
        absent = batch.restore(ABSENT)
        stale = batch.preserve("s", {"n": 2}, context_id=one.context_id, if_version=9)
        malformed = batch.metadata("no id")
        known = batch.metadata(one.context_id)
    assert good.result().data == {"n": 1}
    assert known.result().version == 1
    for pending, kind in ((absent, ContextNotFound), (stale, VersionConflict), (malformed, InvalidId)):
        with pytest.raises(kind):
            pending.result()


@pytest.mark.parametrize("sizes", [(1, 1), (1_000_000, 1), (1, 1_000_000), (100_000, 1, 400_000, 1)])
def test_the_order_of_the_calls_is_kept(store: ContextStore, sizes: tuple[int, ...]) -> None:
    """Writes of one context get their versions in the order of the calls, whatever their sizes: none overtakes."""
    cid = str(uuid4())
    store.preserve("s", {"other": True})
    with store.batch() as batch:
        kept = [
            batch.preserve("s", {"n": n, "body": "x" * size}, context_id=cid, compression="none")
            for n, size in enumerate(sizes)
        ]
        last = batch.restore(cid)
    assert [pending.result().version for pending in kept] == list(range(1, len(sizes) + 1))
    assert last.result().data["n"] == len(sizes) - 1


def test_the_very_first_calls_of_a_tenant_keep_their_order(store: ContextStore) -> None:
    """Learning the tenant's record and loading the script on the way changes nothing about it."""
    cid = str(uuid4())
    with store.batch() as batch:
        kept = [batch.preserve("s", {"n": n}, context_id=cid) for n in range(5)]
    assert [pending.result().version for pending in kept] == [1, 2, 3, 4, 5]


def test_every_operation_of_one_context_has_its_place(store: ContextStore) -> None:
    """Each method of a batch answers as the store's own does."""
    one, other = store.preserve("s", {"turns": [1]}), store.preserve("s", {"n": 1})
    with store.batch() as batch:
        results: list[Pending[Any]] = [
            batch.pin(one.context_id),
            batch.extend(one.context_id, 100),
            batch.metadata(one.context_id),
            batch.lifecycle(one.context_id),
            batch.hops(one.context_id),
            batch.handoff(other.context_id, "a", "b"),
        ]
        gone = batch.drop(other.context_id)
    for pending in (*results, gone):
        pending.result()
    assert {name for name in vars(type(batch)) if name in _ONE_CONTEXT} == _ONE_CONTEXT
    with pytest.raises(LukhasRedisError):
        store.restore(other.context_id)


_ONE_CONTEXT = {
    *("preserve", "restore", "append", "patch", "handoff", "extend", "pin", "drop"),
    *("lease", "renew", "release", "metadata", "lifecycle", "hops"),
}


def test_a_result_is_there_after_the_block_only(store: ContextStore) -> None:
    """Asking too early says what to do; it does not spoil the result."""
    with store.batch() as batch:
        pending = batch.preserve("s", {"n": 1})
        with pytest.raises(InvalidArgument, match="with"):
            pending.result()
    assert pending.result().version == 1
    with pytest.raises(InvalidArgument, match="inside its `with` block"):
        batch.preserve("s", {"n": 2})


def test_an_exception_in_the_block_sends_nothing(store: ContextStore, server: RunningServer) -> None:
    """The results raise what the block ended with, and the server saw no command."""
    store.preserve("s", {"n": 1})
    evals = _calls(server, "evalsha")
    results: list[Pending[Any]] = []
    with pytest.raises(ZeroDivisionError):
        _spoilt(store, results)
    assert _calls(server, "evalsha") == evals
    with pytest.raises(ZeroDivisionError):
        results[0].result()


def _spoilt(store: ContextStore, results: list[Pending[Any]]) -> None:
    with store.batch() as batch:
        results.append(batch.preserve("s", {"n": 1}))
        raise ZeroDivisionError


def test_an_empty_batch_sends_nothing(server: RunningServer, make: Makes) -> None:
    """It does not even connect."""
    with make("redis://127.0.0.1:1").batch():
        pass


def test_each_result_is_measured_under_its_own_name(make: Makes, monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of preserve_many are: counted, without a duration that would be the whole batch's."""
    registry = CollectorRegistry()
    monkeypatch.setattr("lukhas_redis.telemetry.instruments.REGISTRY", registry)
    store = make()
    with store.batch() as batch:
        for n in range(3):
            batch.preserve("s", {"n": n})
        batch.restore(ABSENT)
        batch.drop("no id")
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    found = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    preserved = sum(value for name, value in found.items() if name[0] == "lukhas_context_preserve_total")
    errors = {name[1:]: value for name, value in found.items() if name[0] == "lukhas_store_errors_total"}
    assert preserved == 3
    assert errors == {("restore", "CONTEXT_NOT_FOUND"): 1, ("drop", "INVALID_CONTEXT"): 1}
    assert not [name for name in found if name[0] == "lukhas_context_preserve_duration_seconds_count"]
