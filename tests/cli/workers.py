"""`lukhas worker` as processes that a test signals, kills and reads.

What belongs here: an app, starting it, and what it left behind. What does not: what must have become of it (the tests).
Invariant: all processes end with the `Workers`, at the latest with the test process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lukhas_redis.testing import wait_until
from lukhas_redis.testing.guard import Guard
from tests.cli.running import COMMAND

GROUP = "reviewers"

# A handler that waits for a file named `go` when its payload says so, and notes what it did in its own words.
APP = """
import asyncio, os, pathlib
from lukhas_redis.bus import AsyncContextBus

VERSION = 1

def note(word, event):
    with open("notes", "a") as notes:
        notes.write(f"{word} {event.payload['n']} {os.getpid()} {VERSION}\\n")

async def review(event, tx):
    note("began", event)
    while event.payload.get("wait") and not pathlib.Path("go").exists():
        await asyncio.sleep(0.01)
    if event.payload.get("emit"):
        tx.emit("draft.reviewed", event.payload)
    note("ended", event)

bus = AsyncContextBus.connect()
bus.subscribe("draft.written", review, group="reviewers", concurrency=2, hold_seconds=1)

async def later():
    return bus

nothing = AsyncContextBus.connect()
number = 7
"""


class Worker:
    """One process."""

    def __init__(self, home: Path, words: list[str], environment: dict[str, str]) -> None:
        out, err = (home / f"{len(list(home.iterdir()))}.{kind}" for kind in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*COMMAND, "worker", *words],
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
            )
        self._out, self._err = out, err
        Guard.current().watch_process(self.process.pid)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def err(self) -> str:
        """What it wrote to stderr."""
        return self._err.read_text()

    @property
    def lives(self) -> list[dict[str, Any]]:
        """Its summaries, the last one last; nothing else is on its stdout."""
        return [json.loads(line) for line in self._out.read_text().splitlines()]

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self, *numbers: int) -> int:
        """Send signals, and wait until it is gone; its exit code."""
        for number in numbers:
            self.signal(number)
        try:
            return self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.err}") from None

    def say(self, words: str) -> None:
        """Wait until it has said something."""
        wait_until(lambda: words in self.err, timeout=60, what=f"a worker says {words!r}: {self.err}")


class Workers:
    """The processes of one test, which share a directory. A context manager."""

    def __init__(self, url: str, tenant: str, home: Path, app: str = APP) -> None:
        self.home = home
        self._where = {"LUKHAS_URL": url, "LUKHAS_TENANT": tenant}
        self._started: list[Worker] = []
        (home / "app.py").write_text(app)

    def start(self, *words: str, app: str = "app:bus") -> Worker:
        """Start one."""
        # No cached code: a test may change the app within the second that it is told apart by.
        environment = {**os.environ, **self._where, "PYTHONDONTWRITEBYTECODE": "1"}
        self._started.append(Worker(self.home, [app, *words], environment))
        return self._started[-1]

    def go(self) -> None:
        """Have handlers that wait go on."""
        (self.home / "go").touch()

    def notes(self, word: str = "") -> list[list[str]]:
        """What handlers noted: a word, the event's number, the process id, the app's version."""
        path = self.home / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split() for line in lines if line.startswith(word)]

    def wait_for(self, word: str, count: int) -> list[list[str]]:
        """Wait until handlers have noted so many."""
        wait_until(lambda: len(self.notes(word)) >= count, timeout=60, what=f"{count} have {word}: {self.errors()}")
        return self.notes(word)

    def errors(self) -> list[str]:
        """What all of them wrote to stderr."""
        return [one.err for one in self._started]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for one in self._started:
            if one.process.poll() is None:
                one.signal(signal.SIGKILL)
            one.process.wait()
            Guard.current().forget_process(one.pid)
