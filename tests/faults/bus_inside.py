"""A bus and its workers inside the test's own process.

What belongs here: making them, running them for a while, asking how far they are. What does not: processes
(`bus_fleet`).
Invariant: what was made here is closed with its block.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus import AsyncContextBus
from lukhas_redis.bus_models import GroupStatus
from lukhas_redis.settings import Settings
from lukhas_redis.testing import wait_until_async

QUICK: dict[str, Any] = {
    "max_context_throughput_mbps": 0,
    "bus_hold_seconds": 0.6,
    "bus_first_backoff_seconds": 0.02,
    "bus_longest_backoff_seconds": 0.05,
    "bus_max_deliveries": 3,
}


@asynccontextmanager
async def opened(url: str, tenant: str, **changes: Any) -> AsyncGenerator[AsyncContextBus]:
    """A bus whose holds and retries are short; `changes` are settings."""
    async with AsyncContextStore.connect(url, tenant=tenant, settings=Settings.load(**{**QUICK, **changes})) as store:
        yield AsyncContextBus(store)


@asynccontextmanager
async def running(*buses: AsyncContextBus, grace_seconds: float = 10.0) -> AsyncGenerator[list[asyncio.Task[None]]]:
    """Workers that run until the block ends."""
    tasks = [asyncio.ensure_future(bus.run(grace_seconds=grace_seconds)) for bus in buses]
    try:
        yield tasks
    finally:
        for bus in buses:
            bus.stop()
        for task in tasks:
            await task


async def group_of(bus: AsyncContextBus, name: str) -> GroupStatus | None:
    """How far a group is."""
    return next((one for one in (await bus.status()).groups if one.name == name), None)


async def reach(bus: AsyncContextBus, group: str, what: str, count: int, *, timeout: float = 30.0) -> GroupStatus:
    """Wait until one of the counts of a group is at least `count`."""

    async def there() -> GroupStatus | None:
        found = await group_of(bus, group)
        return found if found and found.counts[what] >= count else None

    return await wait_until_async(there, timeout=timeout, what=f"{group} has {what} {count}")
