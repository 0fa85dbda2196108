"""Streams by hand: redis-py's XADD, XREADGROUP and XACK, as everybody would write it first.

What belongs here: that loop, and what other sides need of the server besides. What does not: measuring.
Invariant: what is read together is acknowledged together, behind the last handler.
"""

from __future__ import annotations

import json
from typing import Any, ClassVar

from benchmarks.buses.side import BusSide, Guarantees, Handle, Payload

_BLOCK_MS = 2_000


class Plain(BusSide):
    """One stream, one group, one reader."""

    name: ClassVar[str] = "redis-py, XADD and XREADGROUP"
    package: ClassVar[str] = "redis"
    said: ClassVar[Guarantees] = Guarantees(
        "after the handlers of a read", "by hand", "none", "none beyond one reader", "none", "none"
    )
    stream: ClassVar[str] = "plain"
    group: ClassVar[str] = "work"

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._made: Any = None

    @property
    def client(self) -> Any:
        """A client of this process."""
        if self._made is None:
            import redis.asyncio

            # The usual pool raises when more than a hundred emit at once; this one has them wait.
            pool = redis.asyncio.BlockingConnectionPool.from_url(self.url, timeout=None)
            self._made = redis.asyncio.Redis(connection_pool=pool)
        return self._made

    async def prepare(self) -> None:
        """XGROUP CREATE."""
        await self.client.xgroup_create(self.stream, self.group, id="0", mkstream=True)

    async def open(self) -> None:
        """Connect."""
        await self.client.ping()

    async def emit(self, payload: Payload, priority: str = "normal") -> None:  # noqa: ARG002 - the interface
        """XADD of JSON."""
        await self.client.xadd(self.stream, {"data": json.dumps(payload)})

    async def work(self, handle: Handle, concurrency: int) -> None:
        """XREADGROUP, the handlers, XACK."""
        client = self.client
        while True:
            found = await client.xreadgroup(self.group, "one", {self.stream: ">"}, count=concurrency, block=_BLOCK_MS)
            # A list of pairs in RESP2, a dict of lists in RESP3.
            rows = found.values() if isinstance(found, dict) else [rows for _, rows in found or ()]
            for entries in rows:
                some = entries[0] if isinstance(found, dict) else entries
                for _, fields in some:
                    handle(json.loads(fields[b"data"]))
                await client.xack(self.stream, self.group, *[entry_id for entry_id, _ in some])

    async def unfinished(self) -> int:
        """XINFO GROUPS: pending, and not read yet."""
        return sum(
            int(group["pending"]) + int(group["lag"] or 0) for group in await self.client.xinfo_groups(self.stream)
        )
