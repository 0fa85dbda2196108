"""Our store: append, handoff, and a shared view of what the near cache holds and the server confirms.

What belongs here: how its documentation says to use it. What does not: measuring. Invariant: as in `side`.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar, Self

from benchmarks.peers.side import OWNERS, TTL_SECONDS, Message, Side
from benchmarks.places import bench_settings
from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.testing import RunningServer


class Ours(Side):
    """Two stores with near caches of their own."""

    name: ClassVar[str] = "lukhas_redis"
    package: ClassVar[str] = "lukhas-redis"
    commands: ClassVar[tuple[str, ...] | None] = ("evalsha", "unlink")
    keys: ClassVar[tuple[str, ...]] = ("lukhas:*",)
    atomic: ClassVar[str] = "yes"
    versions: ClassVar[bool] = True
    handoff: ClassVar[str] = "handoff(), recorded"

    def __init__(self, stores: list[AsyncContextStore]) -> None:
        self._stores = stores
        self._ids: dict[str, str] = {}

    @classmethod
    async def open(cls, server: RunningServer) -> Self:
        """Two workers, connected."""
        settings = bench_settings(near_cache="on")
        stores = [AsyncContextStore.connect(server.url, tenant="race", settings=settings) for _ in OWNERS]
        for store in stores:
            await store.ready()
        return cls(stores)

    async def pass_on(self, worker: int, run: str, turn: int, message: Message) -> None:
        """Append (the first time: preserve) and hand over."""
        store = self._stores[worker]
        if turn == 0:
            stored = await store.preserve(run, {"run": run, "history": [message]}, ttl=TTL_SECONDS)
            self._ids[run] = stored.context_id
            await store.handoff(stored.context_id, OWNERS[worker], OWNERS[1 - worker])
        else:
            # Begun in one turn of the event loop, both cost one round trip (docs/concepts.md).
            await asyncio.gather(
                store.append(self._ids[run], ("history",), [message]),
                store.handoff(self._ids[run], OWNERS[worker], OWNERS[1 - worker]),
            )

    async def read(self, worker: int, run: str) -> list[Message]:
        """Restore as a read-only view."""
        context = await self._stores[worker].restore(self._ids[run], shared=True)
        history: list[Message] = context.data["history"]
        return history

    async def close(self) -> None:
        """Close the connections."""
        for store in self._stores:
            await store.close()
