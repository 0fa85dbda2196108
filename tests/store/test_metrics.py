"""The metrics as a store on a real server moves them.

What belongs here: that each event of the store reaches its metric. What does not: details of counting
(`unit/test_telemetry`), names (`contract/test_metric_names`).
Invariant: each test has metrics of its own, so that names used by other tests of the process fill no limit here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from os import urandom
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.errors import ContextCorrupted, ContextNotFound, VersionConflict
from lukhas_redis.settings import Settings
from lukhas_redis.store import ContextStore
from lukhas_redis.testing import RunningServer, wait_until
from tests.fix_servers import StartsServers

ABSENT = "11111111-1111-4111-8111-111111111111"
NOISE = urandom(2500)  # does not shrink
HITS = ("false", "true")
DATA = {"turns": [{"role": "user", "text": "hello"}] * 50}
Makes = Callable[..., ContextStore]
Begins = Callable[[], "Watch"]


class Watch:
    """How far the metrics have moved since it was made."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._before = self._all()

    def moved(self) -> dict[str, float]:
        """Every sample that moved, by name and labels."""
        now = self._all()
        return {
            name: value - self._before.get(name, 0) for name, value in now.items() if value != self._before.get(name, 0)
        }

    def counts(self) -> dict[str, float]:
        """Those of `moved` that do not depend on how long something took."""
        return {name: by for name, by in self.moved().items() if "_sum" not in name and "_bucket" not in name}

    def _all(self) -> dict[str, float]:
        return {
            f"{sample.name}{sorted(sample.labels.items()) or ''}": sample.value
            for metric in self._registry.collect()
            for sample in metric.samples
        }


def sample(name: str, **labels: str) -> str:
    """A sample as `Watch` names it."""
    return f"{name}{sorted(labels.items()) or ''}"


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """An empty registry in the place of the process' own."""
    registry = CollectorRegistry()
    monkeypatch.setattr("lukhas_redis.telemetry.instruments.REGISTRY", registry)
    return registry


@pytest.fixture
def watch(registry: CollectorRegistry) -> Begins:
    """Begins to watch."""
    return lambda: Watch(registry)


@pytest.fixture
def make(server: RunningServer, tenant: str) -> Generator[Makes]:
    """Makes stores of the test's tenant; they are closed with the test."""
    made: list[ContextStore] = []

    def new(**settings: Any) -> ContextStore:
        made.append(ContextStore.connect(server.url, tenant=tenant, settings=Settings(min_ttl_seconds=1, **settings)))
        return made[-1]

    yield new
    for store in made:
        store.close()


def test_preserve_restore_handoff(watch: Begins, make: Makes) -> None:
    """Each of the three moves exactly its own metrics by one."""
    store, kind = make(session_buckets=1), f"k{uuid4().hex}"
    watched = watch()
    saved = store.preserve("s", DATA, context_type=kind)
    level = str(saved.level)
    assert watched.counts() == {
        sample("lukhas_context_preserve_total", session_id="bucket-0", context_type=kind, compression_level=level): 1,
        sample("lukhas_context_preserve_duration_seconds_count", context_type=kind, compression_level=level): 1,
        sample("lukhas_context_compression_ratio", context_type=kind): saved.compression_ratio,
    }
    watched = watch()
    store.restore(saved.context_id)
    assert watched.counts() == {sample("lukhas_context_restore_duration_seconds_count", cache_hit="false"): 1}
    watched = watch()
    store.handoff(saved.context_id, "claude", kind)
    of = {"source_provider": "claude", "destination_provider": kind}
    assert watched.counts() == {sample("lukhas_context_handoff_duration_seconds_count", **of): 1}


async def test_async_store_moves_the_same_metrics(watch: Begins, server: RunningServer, tenant: str) -> None:
    """The store for event loops counts in the same metrics, a batch without a duration."""
    settings = Settings(session_buckets=1)
    async with AsyncContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        kind = f"k{uuid4().hex}"
        watched = watch()
        item = {"session_id": "s", "data": {"a": 1}, "context_type": kind}
        await store.preserve_many([item, item, {**item, "if_version": 9}])
        of = {"session_id": "bucket-0", "context_type": kind, "compression_level": "0"}
        assert watched.counts() == {
            sample("lukhas_context_preserve_total", **of): 2,
            sample("lukhas_context_compression_ratio", context_type=kind): 1,
            sample("lukhas_store_errors_total", operation="preserve_many", code="CONTEXT_CONFLICT"): 1,
        }


def test_expired_contexts(watch: Begins, make: Makes) -> None:
    """A context that expired counts when a sweep removes it, under both names."""
    store = make()
    store.preserve("s", DATA, ttl=1)
    watched = watch()
    wait_until(lambda: store.sweep().removed == 1, what="the sweep of an expired context")
    assert watched.counts() == {
        sample("lukhas_context_cache_evictions_total", reason="ttl_expired"): 1,
        sample("context_expired_immediately_removed_total"): 1,
    }


@pytest.mark.parametrize("policy, reason", [("evict_lru", "lru_eviction"), ("evict_oldest", "memory_pressure")])
def test_evicted_contexts(watch: Begins, make: Makes, policy: str, reason: str) -> None:
    """A context that made room in a full tenant counts under the tenant's policy."""
    store = make(max_memory_store_entries=2, eviction_policy=policy)
    store.preserve_many([{"session_id": "s", "data": DATA}] * 2)
    watched = watch()
    store.preserve("s", DATA)
    assert watched.moved()[sample("lukhas_context_cache_evictions_total", reason=reason)] == 1


CHANGES: dict[str, Callable[[ContextStore, str], Any]] = {
    "append": lambda store, cid: store.append(cid, ("log",), [NOISE[:1000]]),
    "patch": lambda store, cid: store.patch(cid, {"more": NOISE[:1000]}),
    # Over `inline_body_bytes`: the whole is written, by the script of preserve.
    "large append": lambda store, cid: store.append(cid, ("log",), [NOISE]),
    "large patch": lambda store, cid: store.patch(cid, {"more": NOISE}),
}


@pytest.mark.parametrize("policy, reason", [("evict_lru", "lru_eviction"), ("evict_oldest", "memory_pressure")])
@pytest.mark.parametrize("change", CHANGES)
def test_contexts_evicted_by_a_change_of_a_part(
    watch: Begins, make: Makes, policy: str, reason: str, change: str
) -> None:
    """Room that an append or a patch needs is counted as that for a preserve, once for each context that went."""
    store = make(max_tenant_bytes=6000, eviction_policy=policy, inline_body_bytes=2000)
    for _ in range(2):
        store.preserve("s", {"noise": NOISE[:2500]})
    saved = store.preserve("s", {"log": []})
    store.restore(saved.context_id)
    watched = watch()
    assert CHANGES[change](store, saved.context_id).evicted == 1
    assert watched.counts() == {sample("lukhas_context_cache_evictions_total", reason=reason): 1}
    assert store.stats().totals["evicted"] == 1


def test_cache_hits(watch: Begins, make: Makes) -> None:
    """`cache_hit` is true where the server had to send nothing, only metadata, or only what was added."""
    holder, other, far = make(near_cache="on"), make(), make(near_cache="off")
    cid = other.preserve("s", {"log": []}).context_id

    def read(store: ContextStore) -> str:
        watched = watch()
        store.restore(cid, touch=False)
        ((name, by),) = watched.counts().items()
        assert by == 1
        told = {sample("lukhas_context_restore_duration_seconds_count", cache_hit=one): one for one in HITS}
        return told[name]

    assert [read(holder), read(holder), read(far), read(far)] == ["false", "true", "false", "false"]
    other.handoff(cid, "a", "b")
    assert read(holder) == "true"
    other.append(cid, ("log",), [1])
    assert read(holder) == "true"
    other.preserve("s", {"log": []}, context_id=cid)
    assert [read(holder), read(holder)] == ["false", "true"]
    watched = watch()
    holder.restore_many([cid, cid])
    assert watched.counts() == {}


def test_usage(make: Makes, registry: CollectorRegistry) -> None:
    """Stats set the gauge to the pressure they report."""
    store = make(max_memory_store_entries=4)
    store.preserve("s", DATA)
    assert store.stats().pressure == 0.25
    assert registry.get_sample_value("lukhas_context_memory_store_usage") == 0.25


def test_errors(watch: Begins, make: Makes) -> None:
    """An error counts under its operation and code, and moves nothing else."""
    store = make()
    watched = watch()
    with pytest.raises(ContextNotFound):
        store.restore(ABSENT)
    assert watched.counts() == {sample("lukhas_store_errors_total", operation="restore", code="CONTEXT_NOT_FOUND"): 1}


def test_damaged_data(watch: Begins, make: Makes, server: RunningServer, caplog: pytest.LogCaptureFixture) -> None:
    """A flipped byte on the server counts as a failed verification with its reason, and is warned of."""
    store = make()
    saved = store.preserve("s", DATA)
    with server.client() as client:
        (body,) = client.keys(f"*{{{store.tenant}}}:body:{saved.context_id}")
        last = client.getrange(body, -1, -1)
        client.setrange(body, client.strlen(body) - 1, b"\x01" if last == b"\x00" else b"\x00")
    watched = watch()
    with pytest.raises(ContextCorrupted):
        store.restore(saved.context_id)
    assert watched.counts() == {
        sample("lukhas_context_checksum_verification_failures", context_type="unknown", failure_reason="digest"): 1,
        sample("lukhas_store_errors_total", operation="restore", code="INTERNAL_ERROR"): 1,
    }
    assert saved.context_id in caplog.text


Damage = Callable[[Any, str], object]
# What somebody does to the list of segments, and what a reader says of it.
SEGMENTS: dict[str, tuple[Damage, str]] = {
    "a byte": (lambda client, key: client.lset(key, 1, client.lindex(key, 1)[:-1] + b"\xff"), "digest"),
    "one is missing": (lambda client, key: client.rpop(key), "segments"),
    "all are missing": (lambda client, key: client.unlink(key), "segments"),
    "two are swapped": (lambda client, key: client.lmove(key, key, "LEFT", "RIGHT"), "segments"),
    "one too many": (lambda client, key: client.lpush(key, client.lindex(key, 0)), "segments"),
}


@pytest.mark.parametrize("damage", SEGMENTS)
@pytest.mark.parametrize("inline", [32_768, 10])
def test_damaged_segments(
    watch: Begins, make: Makes, server: RunningServer, caplog: pytest.LogCaptureFixture, damage: str, inline: int
) -> None:
    """Each read of damaged or missing segments counts here, on the server and in the log, whether sent apart or not."""
    store = make(inline_body_bytes=inline, near_cache="off")
    cid, damages = _grown(make()), SEGMENTS[damage]
    damages[0](server.admin, store._space.keys.root.segs(cid))
    for times in (1, 2):
        watched = watch()
        with pytest.raises(ContextCorrupted):
            store.restore(cid)
        assert watched.counts() == _verification_failed("restore", damages[1])
        assert (store.stats().totals["corrupt"], _told(store, cid)) == (times, times)
    watched = watch()
    store.restore_many([cid])
    assert watched.counts() == _verification_failed("restore_many", damages[1])
    assert caplog.text.count("met damaged data") == 3


@pytest.mark.parametrize("damage", ["one is missing", "all are missing", "one too many"])
@pytest.mark.parametrize("operation", ["append", "patch"])
@pytest.mark.parametrize("dry", [False, True])
def test_a_writer_that_meets_missing_segments(
    watch: Begins, make: Makes, server: RunningServer, operation: str, damage: str, dry: bool
) -> None:
    """A change that the script refuses because of them counts as a read of them does; in a dry run nowhere."""
    store = make()
    cid = _grown(store)
    SEGMENTS[damage][0](server.admin, store._space.keys.root.segs(cid))
    changes: dict[str, Callable[[], object]] = {
        "append": lambda: store.append(cid, ("log",), [9], dry_run=dry),
        "patch": lambda: store.patch(cid, {"n": 9}, dry_run=dry),
    }
    watched = watch()
    with pytest.raises(ContextCorrupted):
        changes[operation]()
    assert watched.counts() == ({} if dry else _verification_failed(operation, "metadata"))
    times = int(not dry)
    assert (store.stats().totals.get("corrupt", 0), _told(store, cid)) == (times, times)


def test_a_field_that_the_script_cannot_read(watch: Begins, make: Makes, server: RunningServer) -> None:
    """A reader that is refused because of a damaged field counts it here and on the server."""
    store = make(near_cache="off")
    cid = _grown(store)
    server.admin.hset(store._space.keys.root.ctx(cid), "segs", "x")
    watched = watch()
    with pytest.raises(ContextCorrupted):
        store.restore(cid)
    assert watched.counts() == _verification_failed("restore", "metadata")
    assert (store.stats().totals["corrupt"], _told(store, cid)) == (1, 1)


def _grown(store: ContextStore) -> str:
    """A context with three segments."""
    cid = store.preserve("s", {"log": [], "n": 0}).context_id
    for item in range(3):
        store.append(cid, ("log",), [item])
    return cid


def _verification_failed(operation: str, reason: str) -> dict[str, float]:
    name = "lukhas_context_checksum_verification_failures"
    return {
        sample(name, context_type="unknown", failure_reason=reason): 1,
        sample("lukhas_store_errors_total", operation=operation, code="INTERNAL_ERROR"): 1,
    }


def _told(store: ContextStore, cid: str) -> int:
    """How many events say that the context is damaged."""
    return sum((event.event, event.context_id) == ("context.corrupt", cid) for event in store.events(count=1000))


def test_large_context_that_does_not_shrink(watch: Begins, make: Makes, caplog: pytest.LogCaptureFixture) -> None:
    """Noise over 1 MB counts as poorly compressed, and the first of its type is warned of with type and ratio."""
    store, kind = make(), f"k{uuid4().hex}"
    watched = watch()
    for _ in range(2):
        store.preserve("s", {"noise": b"".join(uuid4().bytes for _ in range(70_000))}, context_type=kind)
    assert watched.moved()[sample("lukhas_context_poor_compression_total", context_type=kind)] == 2
    (line,) = [record.getMessage() for record in caplog.records if kind in record.getMessage()]
    assert "compression ratio 1.00" in line


def test_lost_server(watch: Begins, fresh_server: StartsServers, caplog: pytest.LogCaptureFixture) -> None:
    """A server that lost its data counts as one reset, whatever the store does afterwards, and is warned of."""
    server = fresh_server()
    with ContextStore.connect(server.url) as store, server.client() as client:
        saved = store.preserve("s", DATA)
        watched = watch()
        client.flushall()
        for _ in range(2):
            store.preserve("s", DATA, context_id=saved.context_id)
        assert watched.moved()[sample("lukhas_store_resets_total")] == store.resets == 1
        assert caplog.text.count("came back without the data of tenant default") == 1


def test_dry_run_moves_nothing(watch: Begins, make: Makes) -> None:
    """Calls that ask for a dry run and succeed change none of our metrics."""
    store = make(max_memory_store_entries=1, eviction_policy="evict_lru")
    saved = store.preserve("s", DATA)
    watched = watch()
    assert store.preserve("s", DATA, dry_run=True).dry_run
    assert store.handoff(saved.context_id, "a", "b", dry_run=True).dry_run
    assert store.sweep(dry_run=True).dry_run
    assert watched.moved() == {}


def test_tenant_in_dry_run_moves_nothing(watch: Begins, make: Makes) -> None:
    """In a tenant in dry run neither writes nor their errors change the metrics of a new worker."""
    live = make()
    saved = live.preserve("s", DATA)
    live.set_mode("dry_run")
    worker = make()
    worker.restore(saved.context_id)
    watched = watch()
    worker.preserve("s", DATA)
    worker.handoff(saved.context_id, "a", "b")
    with pytest.raises(VersionConflict):
        worker.preserve("s", DATA, context_id=saved.context_id, if_version=7)
    assert watched.moved() == {}


def test_metrics_off(watch: Begins, make: Makes) -> None:
    """With `metrics` off a store works and moves nothing."""
    store = make(metrics=False)
    watched = watch()
    assert store.restore(store.preserve("s", DATA).context_id).data == DATA
    assert watched.moved() == {}
