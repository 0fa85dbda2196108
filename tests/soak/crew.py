"""The processes of a soak: which there are, by which way they reach the server, and killing them.

What belongs here: starting, killing, ending, and what their logs say. What does not: when (`soak`).
Invariant: the first worker and the first producer are never killed, so that a process that lives long can be measured.
"""

from __future__ import annotations

import random
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from lukhas_redis.testing import wait_until
from lukhas_redis.testing.process import ServerProcess
from tests.faults.bus_fleet import Fleet
from tests.soak.handling import ready
from tests.soak.plan import Load
from tests.soak.process import Task, ended

_ROOT = Path(__file__).parents[2]
_PRODUCER_EVERY = 5
# This checkout, whichever one the environment has installed.
_START = (
    "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
    "runpy.run_module('tests.soak.process', run_name='__main__')"
)


@dataclass
class Member:
    """A place in the crew and the process that has it now."""

    role: str
    number: int
    url: str
    process: ServerProcess


class Crew(Fleet):
    """Workers, producers and the store's traffic; every other of each, and the traffic, lose replies now and then."""

    def __init__(self, load: Load, url: str, lossy_url: str, tenant: str, home: Path) -> None:
        patient = {"call_timeout_seconds": float(load.keep_seconds), "near_cache": "off"}
        super().__init__(url, tenant, home, **{**load.settings, **patient})
        self._load = load
        self._lossy_url = lossy_url
        self._chance = random.Random(f"{load.seed} kills")
        self.members: list[Member] = []
        self._turns = 0
        self.kills = 0
        self.early_ends: list[str] = []

    def muster(self) -> None:
        """Start everybody."""
        counts = {"work": self._load.workers, "produce": self._load.producers, "traffic": 1}
        for role, count in counts.items():
            for number in range(count):
                url = self._lossy_url if number % 2 or role == "traffic" else self.url
                self.members.append(Member(role, number, url, self._started(role, number, url)))

    def _started(self, role: str, number: int, url: str) -> ServerProcess:
        task = Task(
            role=role, number=number, url=url, tenant=self.store.tenant, home=str(self.home), load=self._load
        )  # fmt: skip
        return self.launch(role, [sys.executable, "-c", _START, str(_ROOT), task.model_dump_json()])

    def of(self, role: str) -> list[Member]:
        """Everybody of one role."""
        return [member for member in self.members if member.role == role]

    @property
    def veteran(self) -> int:
        """The pid of the worker that is never killed."""
        return self.of("work")[0].process.pid

    def kill_one(self) -> None:
        """Kill -9 a worker, or now and then a producer, and start it again."""
        self.note_ends()
        self._turns += 1
        mortal = [one for one in self.of("produce" if self._turns % _PRODUCER_EVERY == 0 else "work") if one.number]
        running = [one for one in mortal if one.process.alive]
        if not running:
            return
        victim = self._chance.choice(running)
        victim.process.end(signal.SIGKILL)
        self.kills += 1
        victim.process = self._started(victim.role, victim.number, victim.url)

    def note_ends(self) -> None:
        """Write down who has ended without being told to, and start them again."""
        for member in self.members:
            if not member.process.alive and not self.notes.there(ended(member.process.pid)):
                self.early_ends.append(f"{member.role} {member.number} ended: {member.process.log()[-500:]}")
                member.process = self._started(member.role, member.number, member.url)

    def finished(self, role: str) -> bool:
        """Whether everybody of a role has done what it was for."""
        self.note_ends()
        return not any(member.process.alive for member in self.of(role))

    def dismiss_workers(self) -> list[str]:
        """Have the workers stop as a service manager does; what was wrong with how they ended."""
        wrong, pids = [], [member.process.pid for member in self.of("work")]
        wait_until(lambda: all(self.notes.there(ready(pid)) for pid in pids), timeout=60, what="every worker is ready")
        for member in self.of("work"):
            member.process.signal(signal.SIGTERM)
        for member in self.of("work"):
            member.process.end(signal.SIGTERM, timeout=20)
            if not self.notes.there(ended(member.process.pid)):
                wrong.append(f"work {member.number} did not end in order: {member.process.log()[-500:]}")
        return wrong

    def tracebacks(self) -> list[str]:
        """What of the logs no worker should ever write."""
        words = ("Traceback", "Task exception was never retrieved", "Unclosed", "never awaited")
        return [line for word in words for line in self.logs(word)]
