"""Our bus: handlers that do nothing, and handlers that change a context in one step with the end of their event.

What belongs here: how its documentation says to use it. What does not: measuring. Invariant: as in `side`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar
from uuid import UUID

from benchmarks.buses.side import BusSide, Guarantees, Handle, Payload

if TYPE_CHECKING:
    from lukhas_redis.bus import AsyncContextBus, BusEvent, Transaction

_CONTEXTS = 32
_MANY = 100_000_000


class Ours(BusSide):
    """`AsyncContextBus`: `emit`, `subscribe` and `run`."""

    name: ClassVar[str] = "lukhas_redis"
    package: ClassVar[str] = "lukhas-redis"
    said: ClassVar[Guarantees] = Guarantees(
        "after the handler, fenced",
        "by any worker after 30 s without a sign of life",
        "4, low ones not starved",
        "by ordering key",
        "yes, with redrive",
        "yes, one script",
    )

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._made: AsyncContextBus | None = None

    @property
    def bus(self) -> AsyncContextBus:
        """The bus of this process."""
        if self._made is None:
            from benchmarks.places import bench_settings
            from lukhas_redis.bus import AsyncContextBus

            self._made = AsyncContextBus.connect(
                self.url, tenant="events", settings=bench_settings(bus_max_entries=_MANY)
            )
        return self._made

    async def prepare(self) -> None:
        """Nothing: a new group begins with the oldest event."""
        await self.bus.store.ready()

    async def open(self) -> None:
        """Connect."""
        await self.bus.store.ready()

    async def emit(self, payload: Payload, priority: str = "normal") -> None:
        """`emit`."""
        await self.bus.emit("bench.event", payload, priority=priority)

    async def work(self, handle: Handle, concurrency: int) -> None:
        """`subscribe` and `run`."""

        async def handler(event: BusEvent) -> None:
            handle(event.payload)

        self.bus.subscribe("bench.*", handler, group="work", concurrency=concurrency)
        await self.bus.run()

    async def unfinished(self) -> int:
        """By `status`."""
        status = await self.bus.status()
        return sum(group.pending + (group.lag or 0) for group in status.groups)


class OursWithEffect(Ours):
    """The same with a transaction: each event appends one item to one of 32 contexts."""

    name: ClassVar[str] = "lukhas_redis, append in the same step"

    async def prepare(self) -> None:
        """Preserve the contexts."""
        await super().prepare()
        for context_id in _context_ids():
            await self.bus.store.preserve("effects", {"done": []}, context_id=context_id)

    async def work(self, handle: Handle, concurrency: int) -> None:
        """`subscribe` a handler that takes a transaction."""
        ids = _context_ids()

        async def handler(event: BusEvent, tx: Transaction) -> None:
            handle(event.payload)
            number = event.payload["n"]
            tx.append(ids[number % _CONTEXTS], ("done",), [{"n": number}])

        self.bus.subscribe("bench.*", handler, group="work", concurrency=concurrency)
        await self.bus.run()


def _context_ids() -> list[str]:
    return [str(UUID(int=number << 80, version=4)) for number in range(_CONTEXTS)]
