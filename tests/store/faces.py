"""The two stores, and the two buses, behind one face, so that each test of them is written once.

What belongs here: making the sync ones awaitable; reading events as either bus does. What does not: fixtures (see
`conftest`).
Invariant: nothing is changed on the way but the waiting: arguments, results and errors are the store's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from lukhas_redis import AsyncContextStore, ContextStore
from lukhas_redis.bus import AsyncContextBus, BusEvent, ContextBus, Retry
from lukhas_redis.models import Metadata
from lukhas_redis.settings import Settings

FACES = ("sync", "async")


class InThread:
    """A sync store, or bus, whose methods run in a thread and can be awaited."""

    def __init__(self, store: ContextStore | ContextBus) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        async def method(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(found, *args, **kwargs)

        return method

    async def list(self, **kwargs: Any) -> AsyncIterator[Metadata]:
        """All that the sync iterator gives."""
        store: Any = self._store
        for one in await asyncio.to_thread(lambda: list(store.list(**kwargs))):
            yield one


def connect(face: str, url: str, tenant: str, **changes: Any) -> AsyncContextStore:
    """A store of the given face; `changes` are settings."""
    settings = Settings(**changes)
    if face == "async":
        return AsyncContextStore.connect(url, tenant=tenant, settings=settings)
    return cast(AsyncContextStore, InThread(ContextStore.connect(url, tenant=tenant, settings=settings)))


def connect_bus(face: str, url: str, tenant: str, **changes: Any) -> AsyncContextBus:
    """A bus of the given face; `changes` are settings. It makes its store and closes it."""
    settings = Settings(**changes)
    if face == "async":
        return AsyncContextBus.connect(url, tenant=tenant, settings=settings)
    return cast(AsyncContextBus, InThread(ContextBus.connect(url, tenant=tenant, settings=settings)))


class Reader:
    """A consumer group at work, by `read` and `ack` or by a handler."""

    def __init__(self, face: str, bus: AsyncContextBus, group: str, pattern: str = "*", **options: Any) -> None:
        self._bus = bus
        self._group = group
        self._pattern = pattern
        self._options = options
        self._work = self._by_handler if face == "async" else self._by_reading

    async def take(self, count: int, again: Callable[[BusEvent], bool] = lambda _: False) -> list[BusEvent]:
        """The next `count` deliveries, each finished, or given back where `again` says so."""
        taken: list[BusEvent] = []
        async with asyncio.timeout(60):
            await self._work(taken, count, again)
        return taken

    async def _by_reading(self, taken: list[BusEvent], count: int, again: Callable[[BusEvent], bool]) -> None:
        bus: Any = self._bus
        while len(taken) < count:
            for event in await bus.read(self._group, count=1, pattern=self._pattern, wait=1.0, **self._options):
                taken.append(event)
                if again(event):
                    await bus.retry(self._group, event, error="not now")
                else:
                    assert await bus.ack(self._group, event) == {event.event_id: "DONE"}

    async def _by_handler(self, taken: list[BusEvent], count: int, again: Callable[[BusEvent], bool]) -> None:
        worker = AsyncContextBus(self._bus.store)

        async def handle(event: BusEvent) -> None:
            taken.append(event)
            # Nothing more is taken once the worker was told to stop.
            if len(taken) >= count:
                worker.stop()
            if again(event):
                raise Retry("not now", delay=0)

        worker.subscribe(self._pattern, handle, group=self._group, concurrency=1, **self._options)
        await worker.run()
