"""Servers that are killed: what was acknowledged at level local is there, and nothing is there by half.

What belongs here: kill -9 and restarts of one server. What does not: replicas (`test_store_replicas`).
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.errors import ContextLost, ContextNotFound, LukhasRedisError, ServerUnsuitable
from lukhas_redis.models import Context
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, wait_until
from tests.fix_hypothesis import NIGHTLY
from tests.fix_servers import StartsServers

pytestmark = pytest.mark.faults

LOCAL = {"appendonly": "yes", "appendfsync": "always"}
KILLS = 100 if NIGHTLY else 8


def _store(server: RunningServer, tenant: str, **changes: Any) -> ContextStore:
    settings = Settings(**{"call_timeout_seconds": 20.0, "max_context_throughput_mbps": 0, **changes})
    return ContextStore.connect(server.url, tenant=tenant, settings=settings)


@dataclass
class Writer:
    """Writes one context after the other to one id, each until it is acknowledged, and notes the last one that was."""

    store: ContextStore
    name: str
    acknowledged: int = 0
    sent: int = 0
    context_id: str = ""
    others: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    failure: BaseException | None = None

    def run(self) -> None:
        """Until told to stop."""
        try:
            while not self.stop.is_set():
                self.sent += 1
                self._write(self.sent)
                self.acknowledged = self.sent
        except BaseException as error:  # noqa: BLE001 - shown by the test
            self.failure = error

    def data(self, n: int) -> dict[str, Any]:
        """Every third one is staged."""
        return {"n": n, "by": self.name, "x": f"{n}." * (30_000 if n % 3 == 0 else 10)}

    def _write(self, n: int) -> None:
        made = self._until_known(n, context_id=self.context_id or None, if_version=n - 1)
        self.context_id = made.context_id
        if n % 5 == 0:
            self.others.append(self._until_known(-n, context_id=None, if_version=None).context_id)

    def _until_known(self, n: int, **options: Any) -> Any:
        rid = f"{self.name}-{n}"
        while True:
            try:
                return self.store.preserve(
                    self.name, self.data(n), compression="none", durability="local", request_id=rid, **options
                )
            except LukhasRedisError as error:
                if not error.retryable:
                    raise


@pytest.mark.slow
@pytest.mark.timeout(3600 if NIGHTLY else 180)
def test_killed_in_a_loop_nothing_acknowledged_is_lost(fresh_server: StartsServers, tenant: str) -> None:
    """Kill -9 under four writers at level local: each version was written once, all acknowledged ones are there."""
    server = fresh_server(config=LOCAL)
    writers = [Writer(_store(server, tenant), f"w{n}") for n in range(4)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        for _ in range(KILLS):
            goal = _acknowledged(writers) + 30
            wait_until(lambda goal=goal: _failed(writers) or _acknowledged(writers) >= goal, timeout=60)  # type: ignore[misc]
            server.kill9()
            server.start()
    finally:
        for writer in writers:
            writer.stop.set()
        for thread in threads:
            thread.join()
    assert not _failed(writers)
    _nothing_lost_or_half(writers)


def _acknowledged(writers: list[Writer]) -> int:
    return sum(writer.acknowledged for writer in writers)


def _failed(writers: list[Writer]) -> list[BaseException]:
    return [writer.failure for writer in writers if writer.failure is not None]


def _nothing_lost_or_half(writers: list[Writer]) -> None:
    for writer in writers:
        found = writer.store.restore(writer.context_id)
        assert (found.data, found.version) == (writer.data(writer.acknowledged), writer.acknowledged)
        for one in writer.store.restore_many(writer.others):
            assert isinstance(one, Context), one
            assert one.data == writer.data(one.data["n"])
    store = writers[0].store
    listed = {one.context_id for one in store.list()}
    assert listed == {w.context_id for w in writers} | {cid for w in writers for cid in w.others}
    assert store.check().sound
    stats = store.stats()
    assert stats.totals["preserved"] == sum(w.acknowledged + len(w.others) for w in writers)
    assert store.resets == 0
    for writer in writers:
        writer.store.close()


@pytest.mark.parametrize("config", [{"appendonly": "no"}, {"appendonly": "yes", "appendfsync": "everysec"}])
def test_local_is_refused_where_the_server_cannot_give_it(
    fresh_server: StartsServers, tenant: str, config: dict[str, str]
) -> None:
    """durability="local" names the setting that is missing, and writes nothing; memory works on the same server."""
    server = fresh_server(config=config)
    with _store(server, tenant) as store:
        with pytest.raises(ServerUnsuitable, match="append"):
            store.preserve("s", {}, durability="local")
        assert server.admin.dbsize() == 0
        assert store.preserve("s", {}, durability="memory").version == 1


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("look", ["restore", "preserve", "stats", "restore_many"])
def test_a_server_that_came_back_empty_is_noticed(
    fresh_server: StartsServers, tenant: str, look: str, shards: int
) -> None:
    """Level memory does not survive a restart, and the store says so: resets is counted once, contexts are lost."""
    server = fresh_server()
    with _store(server, tenant, shards=shards) as maker, _store(server, tenant) as store:
        made = [maker.preserve(f"s{n}", {"n": n}) for n in range(8)]
        ids = [one.context_id for one in made]
        assert all(isinstance(one, Context) for one in store.restore_many(ids))
        server.kill9()
        server.start()
        maker.preserve("s", {}, context_id=ids[0])
        with pytest.raises(ContextNotFound):
            maker.restore(ids[1])
        asks: dict[str, Any] = {
            "restore": lambda: _lost(store, ids[1]),
            "preserve": lambda: store.preserve("s", {}, context_id=ids[0]),
            "stats": store.stats,
            "restore_many": lambda: [type(one) for one in store.restore_many(ids[1:])] == [ContextLost] * 7,
        }
        assert asks[look]() is not False
        assert store.resets == 1
        _lost(store, ids[1])
        assert store.preserve("s", {"n": 2}).version == 1
        assert store.resets == 1


def _lost(store: ContextStore, context_id: str) -> bool:
    with pytest.raises(ContextLost):
        store.restore(context_id)
    return True
