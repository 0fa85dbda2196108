"""One of several workers that pass one context around, as a start for your own and to see a deployment work.

Whoever owns the context restores it, adds a note and hands it to the next worker. A worker that fell silent is
stepped over. Kill any of them: the next goes on where the last one stopped.

    WORKER_NAME=worker-1 WORKERS=worker-1,worker-2,worker-3 python worker.py

LUKHAS_HOST, LUKHAS_PORT, LUKHAS_USER, LUKHAS_PASSWORD_FILE say where the server is; LUKHAS_* settings apply as always.
WORKER_PAUSE_SECONDS (1): between two looks. WORKER_TAKEOVER_SECONDS (15): silence after which an owner is stepped over.
WORKER_ALIVE_FILE: touched after every look, for a health check.
Ends on SIGTERM after the step at hand, with exit code 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import uuid
from pathlib import Path
from urllib.parse import quote

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import ContextNotFound, LukhasRedisError, OwnerConflict, VersionConflict
from lukhas_redis.models import Context, Metadata

RELAY = str(uuid.UUID("6c756b68-6173-4265-8c61-790000000001"))
KEPT_NOTES = 30


def url() -> str:
    """The server's address, with the password from its file: it shows in no process list and no environment."""
    host, port = os.environ.get("LUKHAS_HOST", "127.0.0.1"), os.environ.get("LUKHAS_PORT", "6379")
    user, file = os.environ.get("LUKHAS_USER", "lukhas-worker"), os.environ["LUKHAS_PASSWORD_FILE"]
    password = Path(file).read_text(encoding="utf-8").strip()
    return f"redis://{user}:{quote(password, safe='')}@{host}:{port}"


def say(**facts: object) -> None:
    """One JSON line."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def mark(alive: Path | None) -> None:
    """Show the health check that the server answered just now."""
    if alive:
        alive.touch()


class Worker:
    """One worker: its name, and all names in the order in which they take turns."""

    def __init__(self, store: AsyncContextStore, name: str, names: list[str], takeover_seconds: float) -> None:
        self.store = store
        self.name = name
        self.names = names
        self.place = names.index(name)
        self.takeover_ms = takeover_seconds * 1000

    @property
    def next(self) -> str:
        """Whose turn it is after ours."""
        return self.names[(self.place + 1) % len(self.names)]

    def may(self, known: Metadata) -> bool:
        """Whether it is our turn; a silent owner is stepped over by the one after it, then by the one after that."""
        if known.owner in (self.name, None):
            return True
        owner = self.names.index(known.owner) if known.owner in self.names else self.place - 1
        distance = (self.place - owner) % len(self.names)
        return known.now_ms - known.updated_ms > distance * self.takeover_ms

    async def look(self) -> None:
        """Begin, or take the turn if it is ours; whatever another worker did meanwhile wins."""
        try:
            await self.step()
        except (VersionConflict, OwnerConflict) as conflict:
            say(worker=self.name, lost_the_race=conflict.code)

    async def step(self) -> None:
        """Do what is to be done now, if anything is."""
        try:
            known = await self.store.metadata(RELAY)
            if self.may(known):
                await self.turn(await self.store.restore(RELAY), known.owner or self.name)
        except ContextNotFound:
            await self.begin()

    async def begin(self) -> None:
        """Make the context, unless somebody was faster."""
        await self.store.preserve("relay", {"turns": 0, "notes": []}, context_id=RELAY, if_version=0, ttl=86_400)
        say(worker=self.name, began=RELAY)

    async def turn(self, context: Context, owner: str) -> None:
        """Add a note and pass the context on; both only if nobody wrote since it was read."""
        data = context.data
        data["turns"] += 1
        data["notes"] = [*data["notes"], self.name][-KEPT_NOTES:]
        kept = await self.store.preserve("relay", data, context_id=RELAY, if_version=context.version, ttl=86_400)
        hop = await self.store.handoff(RELAY, owner, self.next, if_version=kept.version)
        say(worker=self.name, turn=data["turns"], took_over_from=owner, handed_to=hop.destination, version=hop.version)


async def rounds(worker: Worker, stop: asyncio.Event, pause: float, alive: Path | None) -> None:
    """Look, rest, and look again, until told to stop; an error that a retry may mend is only reported."""
    while not stop.is_set():
        try:
            await worker.look()
            mark(alive)
        except LukhasRedisError as error:
            say(worker=worker.name, error=error.code, message=str(error))
            if not error.retryable:
                raise
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), pause)


async def main() -> None:
    """Connect, work, and end in order."""
    name, names = os.environ["WORKER_NAME"], os.environ["WORKERS"].split(",")
    pause = float(os.environ.get("WORKER_PAUSE_SECONDS", "1"))
    takeover = float(os.environ.get("WORKER_TAKEOVER_SECONDS", "15"))
    alive = os.environ.get("WORKER_ALIVE_FILE")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncContextStore.connect(url()) as store:
        server = await store.ready()
        say(worker=name, server=f"{server.flavor} {server.version}")
        await rounds(Worker(store, name, names, takeover), stop, pause, Path(alive) if alive else None)
    say(worker=name, stopped=True)


if __name__ == "__main__":
    asyncio.run(main())
