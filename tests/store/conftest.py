"""Fixtures of the conformance suite: one store, sync or async, on every topology.

What belongs here: making stores and looking at what they left. What does not: servers (`tests/fix_servers`).
Invariant: tests marked `core` run on every topology; the others on single servers, unless LUKHAS_NIGHTLY=1.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Any, Protocol

import pytest
import redis
from redis.cluster import RedisCluster

from lukhas_redis import AsyncContextStore
from lukhas_redis.bus import AsyncContextBus
from lukhas_redis.keys import KeySpace, ShardKeys
from lukhas_redis.testing import Dump, dump
from tests.fix_farm import Topology
from tests.fix_hypothesis import NIGHTLY
from tests.store.faces import FACES, Reader, connect, connect_bus


class MakesStores(Protocol):
    """Makes a store of the test's tenant; each is closed with the test."""

    def __call__(self, **changes: Any) -> AsyncContextStore:
        """`changes` are settings."""
        ...


class MakesBuses(Protocol):
    """Makes a bus of the test's tenant; each is closed with the test."""

    def __call__(self, **changes: Any) -> AsyncContextBus:
        """`changes` are settings."""
        ...


class MakesReaders(Protocol):
    """Makes a consumer group at work."""

    def __call__(self, bus: AsyncContextBus, group: str, pattern: str = "*", **options: Any) -> Reader:
        """`options` are those of `ContextBus.read` and `AsyncContextBus.subscribe` alike."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """What is stored, seen by a plain client."""

    client: redis.Redis | RedisCluster
    keys: ShardKeys
    prefix: str

    def dump(self) -> Dump:
        """Every key of the tenant."""
        return dump(self.client, prefix=self.prefix)

    def command(self, *words: Any) -> Any:
        """Send one command."""
        return self.client.execute_command(*words)  # type: ignore[no-untyped-call]

    def now_ms(self) -> int:
        """The server's clock; of a cluster, the clock of the tenant's node (they share the machine's)."""
        node: Any = self.client
        seconds, micros = node.time(target_nodes="random") if isinstance(node, RedisCluster) else node.time()
        return int(seconds) * 1000 + int(micros) // 1000


def pytest_configure(config: pytest.Config) -> None:
    """Name our marker."""
    config.addinivalue_line("markers", "core: the part of the conformance suite that runs on every topology")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In CI, the whole suite on single servers and its core on Sentinel and Cluster."""
    if NIGHTLY:
        return
    left_out = [item for item in items if _is_ours(item) and not _runs_in_ci(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def _is_ours(item: pytest.Item) -> bool:
    return item.path.parent.name == "store" and "topology" in getattr(getattr(item, "callspec", None), "params", {})


def _runs_in_ci(item: pytest.Item) -> bool:
    given = item.callspec.params["topology"]  # type: ignore[attr-defined]
    return given is None or given[0] == "single" or item.get_closest_marker("core") is not None


@pytest.fixture(params=FACES)
def face(request: pytest.FixtureRequest) -> str:
    """`sync` or `async`."""
    chosen: str = request.param
    return chosen


@pytest.fixture
async def make(face: str, topology: Topology, tenant: str) -> AsyncGenerator[MakesStores]:
    """A function that makes stores of one tenant, as in `make(shards=4)`."""
    made: list[AsyncContextStore] = []

    def one(**changes: Any) -> AsyncContextStore:
        made.append(connect(face, topology.url, tenant, **{"max_context_throughput_mbps": 0, **changes}))
        return made[-1]

    yield one
    for store in made:
        await store.close()


@pytest.fixture
def store(make: MakesStores) -> AsyncContextStore:
    """A store with the default settings, but for the throughput limit, which has a test of its own."""
    return make()


@pytest.fixture
async def make_bus(face: str, topology: Topology, tenant: str) -> AsyncGenerator[MakesBuses]:
    """A function that makes buses of one tenant, as in `make_bus(shards=4)`."""
    made: list[AsyncContextBus] = []

    def one(**changes: Any) -> AsyncContextBus:
        made.append(connect_bus(face, topology.url, tenant, **{"max_context_throughput_mbps": 0, **changes}))
        return made[-1]

    yield one
    for bus in made:
        await bus.close()


@pytest.fixture
def bus(make_bus: MakesBuses, topology: Topology) -> AsyncContextBus:
    """A bus with the default settings; on a cluster, of a tenant with four shards."""
    return make_bus(shards=4 if topology.kind == "cluster" else 1)


@pytest.fixture
def reader(face: str) -> MakesReaders:
    """A function that makes consumer groups of the bus's face, as in `reader(bus, "billing")`."""

    def one(bus: AsyncContextBus, group: str, pattern: str = "*", **options: Any) -> Reader:
        return Reader(face, bus, group, pattern, **options)

    return one


@pytest.fixture
def look(topology: Topology, tenant: str) -> Generator[Look]:
    """A plain client's view of the tenant."""
    client = topology.client()
    yield Look(client, KeySpace("lukhas", tenant).root, f"lukhas:{{{tenant}")
    client.close()
