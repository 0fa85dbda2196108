"""What a producer of a soak does: it makes the contexts of a part and emits the part's events, part after part.

What belongs here: emitting at a rate, again after a lost reply or a kill. What does not: what is emitted (`plan`).
Invariant: an event is noted as emitted only after the bus has said so; the others are repeated under the same
idempotency key, within the time that it is remembered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus import AsyncContextBus, NewEvent
from lukhas_redis.errors import LukhasRedisError
from tests.faults.bus_worker import Notes
from tests.soak.plan import (
    COUNTED,
    EARLY,
    ECHOED,
    ENOUGH,
    HOLD_ON,
    OUTBOX,
    PART_TTL_SECONDS,
    SEEN,
    Load,
    Part,
    Planned,
    parts_of,
)

T = TypeVar("T")


def emitted_note(part_name: str) -> str:
    """The file with one byte for each event of the part that was emitted."""
    return f"emitted-{part_name}"


def size_of(path: Path) -> int:
    """The bytes of a file, 0 when it is not there."""
    return path.stat().st_size if path.exists() else 0


def complain(home: Path, text: str) -> None:
    """Tell the judge of something that the product must not do."""
    with (home / "wrong").open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


async def insist(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call until it is known what became of it."""
    while True:
        try:
            return await call()
        except LukhasRedisError as error:
            if not error.retryable:
                raise
            await asyncio.sleep(0.05)


class Producer:
    """Emits the parts of its lanes."""

    def __init__(self, load: Load, number: int, home: Path, store: AsyncContextStore) -> None:
        self._load = load
        self._number = number
        self._home = home
        self._notes = Notes(home)
        self._store = store
        self._bus = AsyncContextBus(store)
        self._pause = load.producers * load.lanes / load.rate

    async def run(self) -> None:
        """Until it is told that it is enough; every part that was begun is ended."""
        await asyncio.gather(*(self._lane(lane) for lane in range(self._load.lanes)))

    async def _lane(self, lane: int) -> None:
        for part in parts_of(self._load, self._number, lane):
            noted = self._home / emitted_note(part.name)
            if size_of(noted) == part.length:
                continue
            if self._notes.there(ENOUGH) and not noted.exists():
                return
            if not noted.exists():
                await self._prepare(part)
            await self._emit_all(part, noted)

    async def _prepare(self, part: Part) -> None:
        data: dict[str, Any] = {SEEN: [], ECHOED: [], OUTBOX: [], EARLY: []}
        for context_id, body in ((part.log, data), (part.count, {COUNTED: 0})):
            await insist(
                lambda cid=context_id, body=body: self._store.preserve(  # type: ignore[misc]
                    part.name, body, context_id=cid, ttl=PART_TTL_SECONDS, request_id=f"make-{cid}"
                )
            )

    async def _emit_all(self, part: Part, noted: Path) -> None:
        done = size_of(noted)
        with noted.open("ab", buffering=0) as notes:
            for planned in part.planned[done:]:
                while self._notes.there(HOLD_ON):  # noqa: ASYNC110 - it is said by another process
                    await asyncio.sleep(0.05)
                await self._emit(part, planned)
                notes.write(b".")
                if not self._notes.there(ENOUGH):
                    await asyncio.sleep(self._pause * random.uniform(0.2, 1.8))

    async def _emit(self, part: Part, planned: Planned) -> None:
        send = self._by_write if planned.outbox else self._by_emit
        ids = {await insist(lambda: send(part, planned)) for _ in range(1 + planned.repeats)}
        if len(ids) > 1:
            complain(
                self._home, f"{part.name} {planned.number}: repeats under one idempotency key made {len(ids)} events"
            )

    async def _by_emit(self, part: Part, planned: Planned) -> str:
        emitted = await self._bus.emit(
            "work.todo",
            {"part": part.name, "n": planned.number},
            priority=planned.priority,
            delay=planned.delay or None,
            session_id=part.name,
            ordering_key=part.name if part.ordered else "",
            idempotency_key=f"{part.name}-{planned.number}",
        )
        return emitted.event_id

    async def _by_write(self, part: Part, planned: Planned) -> str:
        """The event of a write; what is compared is the sequence of that write."""
        event = NewEvent(
            "work.todo",
            {"part": part.name, "n": planned.number},
            priority=planned.priority,
            delay=planned.delay or None,
            ordering_key=part.name if part.ordered else "",
        )
        request = f"{part.name}-{planned.number}"
        done = await self._store.append(part.log, f"/{OUTBOX}", [planned.number], request_id=request, emit=event)
        return str(done.sequence)
