"""Worker processes of the bus that a test may kill, freeze and start again.

What belongs here: starting such processes, what they are told, what they must have left behind. What does not: what
they do (`bus_worker`), when they are killed (the tests).
Invariant: all processes end with the `Fleet`, at the latest with the test process.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lukhas_redis import ContextStore
from lukhas_redis.bus import ContextBus
from lukhas_redis.bus_models import GroupStatus
from lukhas_redis.settings import Settings
from lukhas_redis.testing import wait_until
from lukhas_redis.testing.process import ServerProcess
from tests.faults.bus_worker import ALL_EMITTED, COUNTED, ECHO, ECHOED, SEEN, WORK, Job, Notes, Part

_SCRIPT = Path(__file__).with_name("bus_worker.py")


class Fleet:
    """The processes of one test and the contexts that they change. A context manager."""

    def __init__(self, url: str, tenant: str, home: Path, *, shards: int = 1, **settings: Any) -> None:
        self.url = url
        self.home = home
        self.processes: list[ServerProcess] = []
        own = {"max_context_throughput_mbps": 0, "call_timeout_seconds": 30.0, "bus_worker_idle_seconds": 1}
        loaded = Settings.load(**{**own, "shards": shards, **settings})
        self.store = ContextStore.connect(url, tenant=tenant, settings=loaded)
        self.bus = ContextBus(self.store)
        self.parts: list[Part] = []

    def prepare(self, parts: int, events: int, *, every_unordered: int = 4) -> None:
        """Make the contexts of `parts` keys that share `events`; one of `every_unordered` has no ordering key."""
        for place in range(parts):
            name = f"part-{len(self.parts)}"
            log = self.store.preserve(name, {SEEN: [], ECHOED: []}).context_id
            count = self.store.preserve(name, {COUNTED: 0}).context_id
            share = events // parts + (place < events % parts)
            ordered = place % every_unordered != every_unordered - 1
            self.parts.append(Part(name=name, log=log, count=count, events=share, ordered=ordered))

    @property
    def all_emitted(self) -> bool:
        """Whether the emitter has emitted every event of every part."""
        return self.notes.there(ALL_EMITTED)

    @property
    def expected(self) -> int:
        """How many events all parts amount to, with those that handlers emit."""
        return sum(part.events + len(range(0, part.events, 5)) for part in self.parts)

    def start(self, role: str = "work", *, url: str | None = None, **changes: Any) -> ServerProcess:
        """Start a process; `url`: by which way it reaches the server."""
        notes = str(self.home)
        job = Job(
            role=role, url=url or self.url, tenant=self.store.tenant, home=notes, parts=self.parts, **changes
        )  # fmt: skip
        return self.launch(role, [sys.executable, str(_SCRIPT), job.model_dump_json()])

    def launch(self, role: str, command: list[str]) -> ServerProcess:
        """Start a command in a directory of its own."""
        home = self.home / f"{role}-{len(self.processes)}"
        home.mkdir()
        process = ServerProcess(command, home)
        process.start()
        self.processes.append(process)
        return process

    @property
    def notes(self) -> Notes:
        """What its processes have said."""
        return Notes(self.home)

    def wait_note(self, name: str) -> None:
        """Until one of them has said it."""
        wait_until(lambda: self.notes.there(name), timeout=60, what=f"a worker says {name}: {self.logs()}")

    def group(self, name: str = WORK) -> GroupStatus | None:
        """How far a group is."""
        return next((one for one in self.bus.status().groups if one.name == name), None)

    def count(self, what: str, group: str = WORK) -> int:
        """One of the counts of a group, 0 before it is there."""
        found = self.group(group)
        return found.counts[what] if found else 0

    def seen(self, part: Part | None = None) -> list[int]:
        """What was noted in the log of a part, by default of the first."""
        return list(self.store.restore((part or self.parts[0]).log).data[SEEN])

    def logs(self, word: str = "") -> list[str]:
        """The lines with `word` that the processes have logged."""
        return [line for process in self.processes for line in process.log().splitlines() if word in line]

    def check_effects(self) -> None:
        """Every event's effect is there exactly once; of ordered parts in order; nothing is left over."""
        for part in self.parts:
            data, numbers = self.store.restore(part.log).data, list(range(part.events))
            seen = data[SEEN] if part.ordered else sorted(data[SEEN])
            assert seen == numbers, part
            assert sorted(data[ECHOED]) == numbers[::5], part
            if part.ordered:
                assert self.store.restore(part.count).data == {COUNTED: len(numbers[::3])}, part
        events = sum(part.events for part in self.parts)
        echoes = sum(len(range(0, part.events, 5)) for part in self.parts)
        status = self.bus.status()
        assert (sum(status.emitted.values()), status.dead, status.lost) == (self.expected, 0, 0)
        assert {one.name: one.counts["done"] for one in status.groups} == {WORK: events, ECHO: echoes}
        assert [one.pending for one in status.groups] == [0, 0]
        assert self.store.check().sound

    def close(self) -> None:
        """End all processes."""
        for process in self.processes:
            process.end(signal.SIGKILL)
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
