"""The store's own traffic beside the bus: contexts that are made, grow, are read and compared, and go.

What belongs here: lives of contexts with a model of each. What does not: events.
Invariant: a context is written by one task alone, so what is read must be what its model holds.
"""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.errors import ContextExpired, ContextNotFound
from tests.faults.bus_worker import Notes
from tests.soak.plan import ENOUGH, Load
from tests.soak.producing import complain, insist

LIVES = 4


class Life:
    """One context and what it must hold."""

    def __init__(self, store: AsyncContextStore, home: Path, chance: random.Random) -> None:
        self._store = store
        self._home = home
        self._notes = Notes(home)
        self._chance = chance
        self._data: dict[str, Any] = {
            "items": [],
            "step": 0,
            "filler": chance.randbytes(chance.randint(10, 4000)).hex(),
        }
        self._id = ""
        self._until = 0

    async def live(self) -> None:
        """From its making to its end; one that is older than its deadline must be gone, a younger one must be there."""
        try:
            await self._make()
            for _ in range(self._chance.randint(3, 25)):
                if self._notes.there(ENOUGH):
                    break
                await self._chance.choice((self._append, self._append, self._patch, self._read, self._read))()
                await asyncio.sleep(self._chance.random() * 0.3)
            await self._end()
        except ContextExpired as error:
            if time.time() * 1000 < self._until - 1:
                complain(self._home, f"context {self._id} expired before its time: {error}")
        except ContextNotFound as error:
            complain(self._home, f"context {self._id} is gone: {error}")

    async def _make(self) -> None:
        request, ttl = uuid4().hex, self._chance.randint(2, 8)
        session = f"traffic-{self._chance.randrange(20)}"
        kept = await insist(lambda: self._store.preserve(session, self._data, ttl=ttl, request_id=request))
        self._id, self._until = kept.context_id, kept.expires_ms

    async def _append(self) -> None:
        request, item = uuid4().hex, {"n": len(self._data["items"]), "text": "x" * self._chance.randint(1, 200)}
        done = await insist(lambda: self._store.append(self._id, "/items", [item], request_id=request))
        self._data["items"].append(item)
        self._until = done.expires_ms

    async def _patch(self) -> None:
        request, step = uuid4().hex, self._data["step"] + 1
        done = await insist(lambda: self._store.patch(self._id, {"step": step}, request_id=request))
        self._data["step"] = step
        self._until = done.expires_ms

    async def _read(self) -> None:
        found = await insist(lambda: self._store.restore(self._id))
        if found.data != self._data:
            complain(self._home, f"context {self._id} holds something else than was written")
        if found.metadata.now_ms > found.metadata.expires_ms:
            complain(self._home, f"context {self._id} was read after its deadline")

    async def _end(self) -> None:
        """Half are dropped, half expire."""
        if self._chance.random() < 0.5 or self._notes.there(ENOUGH):
            request = uuid4().hex
            await insist(lambda: self._store.drop(self._id, request_id=request))
        else:
            await asyncio.sleep(max(0.0, self._until / 1000 - time.time()) + 0.05)
        try:
            await insist(lambda: self._store.restore(self._id))
        except ContextNotFound:
            return
        complain(self._home, f"context {self._id} was read after its end")


async def traffic(load: Load, number: int, home: Path, store: AsyncContextStore) -> None:
    """Lives one after the other, four at a time, until it is enough."""
    notes = Notes(home)

    async def lane(place: int) -> None:
        chance = random.Random(f"{load.seed} {number} {place}")
        while not notes.there(ENOUGH):
            await Life(store, home, chance).live()

    await asyncio.gather(*(lane(place) for place in range(LIVES)))
