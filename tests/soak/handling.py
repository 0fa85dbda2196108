"""What the workers of a soak do with events, and the faults that may be planted there.

What belongs here: the handlers. What does not: emitting (`producing`), judging (`judging`).
Invariant: but for a planted fault, an event's effects are those of its transaction.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus import AsyncContextBus, BusEvent, Reject, Transaction
from lukhas_redis.bus_models import PRIORITIES
from tests.faults.bus_worker import ECHO, WORK, Notes
from tests.soak.plan import (
    COUNT_EVERY,
    COUNTED,
    EARLY,
    ECHO_EVERY,
    ECHOED,
    HANDOFF_EVERY,
    SEEN,
    Load,
    Part,
    Planned,
    part_named,
    providers_of,
)

LIMITS: dict[str, Any] = {
    "concurrency": 8,
    "max_deliveries": 5,
    "first_backoff_seconds": 0.05,
    "longest_backoff_seconds": 0.3,
}
PLANTED_IN = "part-0-0-0"


def cured(part: Part, number: int) -> str:
    """The note that a poisoned event may be handled now."""
    return f"cured-{part.name}-{number}"


def ready(pid: int) -> str:
    """The note that a worker process ends in order when it is asked to."""
    return f"ready-{pid}"


class Worker:
    """The handlers of one worker process."""

    def __init__(self, load: Load, home: Path, store: AsyncContextStore) -> None:
        self._load = load
        self._notes = Notes(home)
        self._store = store
        self.bus = AsyncContextBus(store)
        limits = {**LIMITS, "hold_seconds": load.hold_seconds}
        self.bus.subscribe("work.*", self.apply, group=WORK, **limits)
        self.bus.subscribe("echo.*", self.echo, group=ECHO, **limits)

    async def apply(self, event: BusEvent, tx: Transaction) -> None:
        """Note the event's number; some move a counter, hand the context on, or tell others."""
        part = part_named(self._load, event.payload["part"])
        planned = part.planned[event.payload["n"]]
        await asyncio.sleep(random.random() * 0.01)
        self._fail(part, planned, event)
        self._note(part, planned, tx)
        if time.time() * 1000 < event.emitted_ms + planned.delay * 1000 - 1:
            tx.append(part.log, f"/{EARLY}", [planned.number])
        if part.ordered:
            await self._continue(part, planned.number, tx)
        if planned.number % ECHO_EVERY == 0:
            tx.emit("echo.made", event.payload, priority=PRIORITIES[planned.number % 4])

    def _fail(self, part: Part, planned: Planned, event: BusEvent) -> None:
        if planned.flaky and event.deliveries == 1:
            raise RuntimeError(f"{part.name} {planned.number} fails once")
        if planned.poison and not self._notes.there(cured(part, planned.number)):
            kind = Reject if planned.poison == "reject" else RuntimeError
            raise kind(f"{part.name} {planned.number} is poison")

    def _note(self, part: Part, planned: Planned, tx: Transaction) -> None:
        items = [planned.number]
        if self._load.plants and part.name == PLANTED_IN:
            items = self._planted(planned.number)
        if items:
            tx.append(part.log, f"/{SEEN}", items)

    def _planted(self, number: int) -> list[int]:
        plants = self._load.plants
        if number == 3 and "lost" in plants:
            return []
        if number == 6 and "double" in plants:
            return [number, number]
        if number in (9, 12) and "order" in plants:
            return [21 - number]
        return [number]

    async def _continue(self, part: Part, number: int, tx: Transaction) -> None:
        """What only handlers that come one after the other can do."""
        if number % COUNT_EVERY == 0:
            found = await self._store.restore(part.count)
            tx.patch(part.count, {COUNTED: found.data[COUNTED] + 1}, if_version=found.version)
        if number % HANDOFF_EVERY == 0:
            tx.handoff(part.log, *providers_of(number))

    async def echo(self, event: BusEvent, tx: Transaction) -> None:
        """Note what a handler of the other group has told."""
        tx.append(part_named(self._load, event.payload["part"]).log, f"/{ECHOED}", [event.payload["n"]])


async def work(load: Load, home: Path, store: AsyncContextStore) -> None:
    """Handle events until SIGTERM."""
    worker = Worker(load, home, store)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.bus.stop)
    Notes(home).leave(ready(os.getpid()))
    await worker.bus.run()
