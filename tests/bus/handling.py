"""Around handlers: an event in the hand of a worker that is not running, and waiting for those that are.

What belongs here: taking, committing, waiting. What does not: what must hold (the tests).
Invariant: the worker that is not running is `w1` of group `g`; its hold does not lapse while a test runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lukhas_redis.bus import AsyncContextBus, BusEvent, Transaction
from lukhas_redis.bus_models import Committed
from lukhas_redis.ops import bus as bus_ops
from lukhas_redis.testing import wait_until_async


async def taken(bus: AsyncContextBus, **args: Any) -> BusEvent:
    """An event that worker `w1` of group `g` has."""
    store = bus.store
    await bus.emit("a.b", {"n": 1}, **args)
    for shard in range(store.space.shard_count):
        await store.run(bus_ops.join(store.space, "g", waiting="@w", shard=shard))
        found = await store.run(
            bus_ops.claim(store.space, "g", "w1", 1, patterns=["^.*$"], hold_ms=600_000, max_deliveries=5, shard=shard)
        )
        if found is not None and found.events:
            return found.events[0]
    raise AssertionError("no event was claimed")


async def commit(
    bus: AsyncContextBus, event: BusEvent, tx: Transaction, *, worker: str = "w1", dry_run: bool = False
) -> Committed:
    """Commit a transaction as a worker does."""
    operations, events = tx.close()
    return await bus.store.run(
        bus_ops.commit(
            bus.store.space, operations, events, delivery=event, group="g", consumer=worker, dry_run=dry_run
        ),
        "commit",
    )


async def begun(bus: AsyncContextBus, **args: Any) -> tuple[BusEvent, Transaction]:
    """An event in hand with an empty transaction."""
    event = await taken(bus, **args)
    return event, Transaction(bus.store.space, event)


async def until_finished(bus: AsyncContextBus, group: str, *, events: int) -> None:
    """Until a group has had so many events and has none in hand."""

    async def finished() -> bool:
        found = next((one for one in (await bus.status()).groups if one.name == group), None)
        ended = 0 if found is None else found.counts["done"] + found.counts["dead"] + found.counts["skipped"]
        return found is not None and ended >= events and found.pending == 0

    await wait_until_async(finished, timeout=60, what=f"{group} to finish {events} events")


async def holds(condition: Callable[[], object], what: str) -> None:
    """Until a condition on what handlers did holds."""

    async def now() -> bool:
        return bool(condition())

    await wait_until_async(now, timeout=60, what=what)
