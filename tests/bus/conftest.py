"""Fixtures of the tests of the bus: buses of one tenant on every server program, and a plain client's view of it.

What belongs here: making buses and looking at what they left. What does not: servers (`tests/fix_servers`).
Invariant: every bus is closed with its test; workers that a test starts are stopped by `working`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import pytest
import redis

from lukhas_redis import AsyncContextStore, ContextStore
from lukhas_redis.bus import AsyncContextBus, ContextBus
from lukhas_redis.keys import KeySpace, ShardKeys
from lukhas_redis.settings import Settings
from lukhas_redis.testing import Dump, RunningServer, dump
from tests.bus.faces import InThread
from tests.store.faces import FACES

QUICK: dict[str, Any] = {
    "max_context_throughput_mbps": 0,
    "bus_first_backoff_seconds": 0.01,
    "bus_longest_backoff_seconds": 0.02,
}


class MakesBuses(Protocol):
    """Makes a bus of the test's tenant; each is closed with the test."""

    def __call__(self, **changes: Any) -> AsyncContextBus:
        """`changes` are settings."""
        ...


@dataclass(frozen=True, slots=True)
class Look:
    """What is stored, seen by a plain client."""

    client: redis.Redis
    keys: ShardKeys
    prefix: str

    def dump(self) -> Dump:
        """Every key of the tenant."""
        return dump(self.client, prefix=self.prefix)

    def now_ms(self) -> int:
        """The server's clock."""
        seconds, micros = self.client.time()
        return int(seconds) * 1000 + int(micros) // 1000

    def calls(self, *commands: str) -> int:
        """How often these commands were carried out, those inside scripts included."""
        info: Any = self.client.info("commandstats")
        return sum(info.get(f"cmdstat_{one}", {"calls": 0})["calls"] for one in commands)


@pytest.fixture
async def make(server: RunningServer, tenant: str) -> AsyncGenerator[MakesBuses]:
    """A function that makes buses of one tenant, as in `make(shards=4)`; always the asyncio one."""
    made: list[AsyncContextBus] = []

    def one(**changes: Any) -> AsyncContextBus:
        settings = Settings(**{**QUICK, **changes})
        made.append(AsyncContextBus(AsyncContextStore.connect(server.url, tenant=tenant, settings=settings)))
        return made[-1]

    yield one
    for bus in made:
        bus.stop()
        await bus.store.close()


@pytest.fixture
def bus(make: MakesBuses) -> AsyncContextBus:
    """A bus for event loops."""
    return make()


@pytest.fixture(params=FACES)
def make_both(request: pytest.FixtureRequest, server: RunningServer, tenant: str) -> Generator[MakesBuses]:
    """As `make`, once with each of the two buses."""
    made: list[ContextStore] = []

    def one(**changes: Any) -> AsyncContextBus:
        if request.param == "async":
            return cast(MakesBuses, request.getfixturevalue("make"))(**changes)
        settings = Settings(**{**QUICK, **changes})
        made.append(ContextStore.connect(server.url, tenant=tenant, settings=settings))
        return cast(AsyncContextBus, InThread(ContextBus(made[-1])))

    if request.param == "async":
        request.getfixturevalue("make")
    yield one
    for store in made:
        store.close()


@pytest.fixture
def both(make_both: MakesBuses) -> AsyncContextBus:
    """Each of the two buses, with the same face."""
    return make_both()


@pytest.fixture
def reader(server: RunningServer, tenant: str) -> Generator[Callable[..., ContextBus]]:
    """A function that makes sync buses; each is a worker of its own."""
    made: list[ContextStore] = []

    def one(**changes: Any) -> ContextBus:
        settings = Settings(**{**QUICK, **changes})
        made.append(ContextStore.connect(server.url, tenant=tenant, settings=settings))
        return ContextBus(made[-1])

    yield one
    for store in made:
        store.close()


@pytest.fixture
def look(server: RunningServer, tenant: str) -> Generator[Look]:
    """A plain client's view of the tenant."""
    client = server.client()
    yield Look(client, KeySpace("lukhas", tenant).root, f"lukhas:{{{tenant}")
    client.close()


@asynccontextmanager
async def working(*buses: AsyncContextBus, **options: Any) -> AsyncGenerator[list[asyncio.Task[None]]]:
    """Workers that run until the block ends, and then stop as `stop` has them."""
    tasks = [asyncio.create_task(bus.run(**options)) for bus in buses]
    try:
        yield tasks
    finally:
        for bus in buses:
            bus.stop()
        await asyncio.gather(*tasks)
