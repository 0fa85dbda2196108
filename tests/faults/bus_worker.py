"""A process of the fault tests of the bus: one worker, or the one that emits. Started by `bus_fleet`.

What belongs here: what such a process does until it is killed. What does not: killing it, and judging what is left.
Invariant: a worker changes contexts in its transactions only, so each effect belongs to one delivery; the emitter notes
an event as emitted only after the bus has said so, and repeats the others under the same idempotency key.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus import AsyncContextBus, BusEvent, Transaction
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.settings import Settings

WORK, ECHO = "work", "echo"
SEEN, ECHOED, COUNTED = "seen", "echoed", "counted"
ALL_EMITTED = "all-emitted"


class Part(BaseModel):
    """Contexts of one key, and how many events it gets. `ordered`: they carry an ordering key."""

    name: str
    log: str
    count: str
    events: int
    ordered: bool


class Job(BaseModel):
    """What a process is told. `home`: where it leaves notes; `play`: what its handler does (see `PLAYS`)."""

    role: str
    url: str
    tenant: str
    home: str
    parts: list[Part] = []
    play: str = "apply"
    hold_seconds: float = 1.0
    max_deliveries: int = 1_000_000
    concurrency: int = 8
    timeout_seconds: float = 5.0


class Notes:
    """Files by which a process and its test tell each other how far they are."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def leave(self, name: str) -> None:
        """Say that something has happened."""
        (self._home / name).touch()

    def there(self, name: str) -> bool:
        """Whether it has been said."""
        return (self._home / name).exists()

    async def wait(self, name: str) -> None:
        """Until it is said."""
        while not self.there(name):  # noqa: ASYNC110 - it is said by another process
            await asyncio.sleep(0.01)


class Worker:
    """The handlers of one worker process."""

    def __init__(self, job: Job, store: AsyncContextStore) -> None:
        self.store = store
        self.notes = Notes(Path(job.home))
        self.parts = {part.name: part for part in job.parts}
        self.bus = AsyncContextBus(store)
        limits: dict[str, Any] = {
            "concurrency": job.concurrency,
            "hold_seconds": job.hold_seconds,
            "max_deliveries": job.max_deliveries,
            "first_backoff_seconds": 0.05,
            "longest_backoff_seconds": 0.5,
        }
        self.bus.subscribe("work.*", getattr(self, job.play), group=WORK, **limits)
        self.bus.subscribe("echo.*", self.echo, group=ECHO, **limits)

    async def apply(self, event: BusEvent, tx: Transaction) -> None:
        """Note the event's number; every third one moves a counter as well, every fifth one is told to others."""
        part, number = self.parts[event.payload["part"]], event.payload["n"]
        await asyncio.sleep(random.random() * 0.01)
        tx.append(part.log, f"/{SEEN}", [number])
        if part.ordered and number % 3 == 0:
            found = await self.store.restore(part.count)
            tx.patch(part.count, {COUNTED: found.data[COUNTED] + 1}, if_version=found.version)
        if number % 5 == 0:
            tx.emit("echo.made", event.payload)

    async def echo(self, event: BusEvent, tx: Transaction) -> None:
        """Note what a handler of the other group has told."""
        tx.append(self.parts[event.payload["part"]].log, f"/{ECHOED}", [event.payload["n"]])

    async def wait(self, event: BusEvent, tx: Transaction) -> None:
        """Note the number once the test says `go`."""
        self.notes.leave("reached")
        await self.notes.wait("go")
        tx.append(self.parts[event.payload["part"]].log, f"/{SEEN}", [event.payload["n"]])

    async def tell(self, event: BusEvent, tx: Transaction) -> None:
        """Once the test says `go`, tell others: such a commit reads nothing first."""
        self.notes.leave("reached")
        await self.notes.wait("go")
        tx.emit("echo.made", event.payload)

    async def block(self, event: BusEvent, tx: Transaction) -> None:
        """As `wait`, but nothing else of the process runs meanwhile: it gives no sign of life."""
        self.notes.leave("reached")
        while not self.notes.there("go"):
            time.sleep(0.01)  # noqa: ASYNC251 - on purpose
        tx.append(self.parts[event.payload["part"]].log, f"/{SEEN}", [event.payload["n"]])

    async def plain(self, event: BusEvent) -> None:
        """An effect outside of any transaction, kept from happening twice by its request id; then wait for `go`."""
        path, items = f"/{SEEN}", [event.payload["n"]]
        log = self.parts[event.payload["part"]].log
        await self.store.append(log, path, items, request_id=event.event_id)
        self.notes.leave("reached")
        await self.notes.wait("go")

    async def die(self, event: BusEvent, tx: Transaction) -> None:
        """Take the process down with it, where the payload says so."""
        if event.payload.get("poison"):
            os._exit(9)
        tx.append(self.parts[event.payload["part"]].log, f"/{SEEN}", [event.payload["n"]])


async def work(job: Job, store: AsyncContextStore) -> None:
    """Handle events until SIGTERM."""
    worker = Worker(job, store)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.bus.stop)
    await worker.bus.run()


async def emit(job: Job, store: AsyncContextStore) -> None:
    """Emit every event of every part, those of one part in their order; go on where an earlier run was killed."""
    bus, home = AsyncContextBus(store), Path(job.home)
    await asyncio.gather(*(_emit_part(bus, part, home / f"emitted-{part.name}") for part in job.parts))
    Notes(home).leave(ALL_EMITTED)


async def _emit_part(bus: AsyncContextBus, part: Part, noted: Path) -> None:
    number = _size(noted)
    with noted.open("ab", buffering=0) as notes:
        while number < part.events:
            try:
                await bus.emit(
                    "work.todo",
                    {"part": part.name, "n": number},
                    session_id=part.name,
                    ordering_key=part.name if part.ordered else "",
                    idempotency_key=f"{part.name}-{number}",
                )
            except LukhasRedisError as error:
                if not error.retryable:
                    raise
                logging.getLogger("emitter").warning("%s %d: %s", part.name, number, error)
            else:
                number += 1
                notes.write(b".")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def main(job: Job) -> None:
    """Do the job."""
    settings = Settings.load(
        max_context_throughput_mbps=0, call_timeout_seconds=job.timeout_seconds, near_cache="on", metrics=False
    )
    async with AsyncContextStore.connect(job.url, tenant=job.tenant, settings=settings) as store:
        await {"work": work, "emit": emit}[job.role](job, store)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(name)s %(levelname)s %(message)s")
    asyncio.run(main(Job.model_validate_json(sys.argv[1])))
