"""The race: every side passes the same events from one process to another on the same server, in turns.

What belongs here: the processes, the order of what they do, the figures. What does not: how a side passes events on.
Invariant: a side has the server for itself while it runs, and every round begins with new processes on an empty server;
a side that fails is shown with its reason and takes no further part.

One process emits, another is the worker; both stay on the CPU of the client. A round of a side: events are emitted
while nothing works, the worker works them off, events are worked off while they are emitted, events go one at a time,
and events come at half the rate at which they were worked off while they were emitted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import IO, Any, TypeAlias

from benchmarks.buses.libraries import Arq, ArqQuick, FastStream, Streaq, Taskiq
from benchmarks.buses.ours import Ours, OursWithEffect
from benchmarks.buses.plain import Plain
from benchmarks.buses.side import EVENT_BYTES, BusSide
from benchmarks.counters import Counters, Probe
from benchmarks.duel import summarise
from benchmarks.optional import AbsentError
from benchmarks.places import ROOT
from benchmarks.plan import Plan
from lukhas_redis.testing import RunningServer

OWN: tuple[type[BusSide], ...] = (Plain, Ours, OursWithEffect)
SIDES: tuple[type[BusSide], ...] = (Plain, Ours, FastStream, Taskiq, Arq, ArqQuick, Streaq)
CONCURRENCY = 32
IDLE, LOAD = "idle", "load"
_WARM_UP = 100
# Far above what any side needs; a side that takes longer has lost an event.
_PATIENCE_SECONDS = 300.0
_QUIT_SECONDS = 5.0
Row: TypeAlias = dict[str, Any]


class SideFailedError(Exception):
    """A side did not do what it was asked for, and why."""


class Process:
    """A child of the race."""

    def __init__(self, kind: type[BusSide], url: str, sign: int) -> None:
        python = os.environ.get(kind.python) if kind.python else None
        words = [python or sys.executable, "-m", "benchmarks.buses.child", f"{kind.__module__}:{kind.__name__}", url]
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [*words, str(sign)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            pass_fds=[sign],
        )  # fmt: skip

    def ask(self, do: str, **asked: Any) -> Any:
        """Have it do something, and wait for that."""
        self.tell(do, **asked)
        return self.told()

    def tell(self, do: str, **asked: Any) -> None:
        """Have it do something.

        Raises:
            SideFailedError: It is gone.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **asked}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise SideFailedError(self._last_words()) from None

    def told(self) -> Any:
        """Its answer.

        Raises:
            AbsentError: The side cannot take part.
            SideFailedError: It has failed.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SideFailedError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "absent" in answer:
            raise AbsentError(answer["absent"])
        if "failed" in answer:
            raise SideFailedError(answer["failed"])
        return answer["ok"]

    def end(self) -> None:
        """End it."""
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_QUIT_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it ended without a word"


@contextmanager
def pair(kind: type[BusSide], url: str) -> Generator[tuple[Process, Process]]:
    """A worker and an emitter."""
    read, write = os.pipe()
    processes: list[Process] = []
    try:
        processes += [Process(kind, url, write), Process(kind, url, read)]
        yield processes[0], processes[1]
    finally:
        for process in processes:
            process.end()
        os.close(read)
        os.close(write)


@dataclass
class Racer:
    """A side with what it did, one figure for each round, but of the latencies all."""

    kind: type[BusSide]
    status: str = "ran"
    version: str = ""
    redis_py: str = ""
    emitted: list[float] = field(default_factory=list)
    drained: list[float] = field(default_factory=list)
    passed: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)
    idle_ns: list[int] = field(default_factory=list)
    load_ns: list[int] = field(default_factory=list)
    twice: int = 0

    def row(self, events: int) -> Row:
        """What is kept."""
        said: Row = {"side": self.kind.name, "status": self.status, **asdict(self.kind.said)}
        if self.status != "ran":
            return said
        return {
            **said,
            "version": self.version,
            "redis_py": self.redis_py,
            "poll_seconds": self.kind.poll_seconds,
            "events": events,
            "rounds": len(self.drained),
            "emitted_per_second": round(statistics.median(self.emitted)),
            "drained_per_second": round(statistics.median(self.drained)),
            "passed_per_second": round(statistics.median(self.passed)),
            "server_cpu_us": round(statistics.median(self.server_us), 2),
            "idle": asdict(summarise(self.idle_ns)),
            "load_per_second": round(statistics.median(self.load)),
            "load": asdict(summarise(self.load_ns)),
            "twice": self.twice,
        }


def measure(server: RunningServer, kinds: Sequence[type[BusSide]], plan: Plan) -> list[Row]:
    """Every side, in as many rounds as planned, beginning with another one each time."""
    racers, probe = [Racer(kind) for kind in kinds], Probe(server)
    for number in range(plan.bus_rounds):
        first = number % len(racers)
        for racer in (*racers[first:], *racers[:first]):
            if racer.status == "ran":
                _round(server, racer, plan, probe)
    return compared([racer.row(plan.bus_events) for racer in racers])


def compared(rows: list[Row]) -> list[Row]:
    """The rows with how each stands to plain streams, where these ran."""
    plain = next((row for row in rows if row["side"] == Plain.name and row["status"] == "ran"), None)
    for row in rows:
        if plain is not None and row["status"] == "ran":
            row["passed_to_plain"] = round(row["passed_per_second"] / plain["passed_per_second"], 3)
            row["drained_to_plain"] = round(row["drained_per_second"] / plain["drained_per_second"], 3)
            row["idle_to_plain"] = round(row["idle"]["p50_us"] / plain["idle"]["p50_us"], 3)
            row["load_to_plain"] = round(row["load"]["p50_us"] / plain["load"]["p50_us"], 3)
    return rows


def _round(server: RunningServer, racer: Racer, plan: Plan, probe: Probe) -> None:
    server.admin.flushall(asynchronous=False)
    try:
        with pair(racer.kind, server.url) as (worker, emitter):
            _played(racer, worker, emitter, plan, probe)
    except AbsentError as error:
        racer.status = f"absent: {error}"
    except SideFailedError as error:
        racer.status = f"failed: {error}"
    server.admin.flushall(asynchronous=False)


def _played(racer: Racer, worker: Process, emitter: Process, plan: Plan, probe: Probe) -> None:
    told = worker.ask("prepare")
    racer.version, racer.redis_py = told["version"], told["redis"]
    emitter.ask("open")
    many = plan.bus_events
    emitter.ask("emit", phase="warm", count=_WARM_UP, tasks=CONCURRENCY)
    sent = emitter.ask("emit", phase="drain", count=many, tasks=CONCURRENCY)
    worker.ask("work", concurrency=CONCURRENCY, signed=IDLE)
    before = probe.look()
    drained = _done(racer, worker, "drain", many)
    racer.server_us.append(_cpu(probe, before) / many)
    emitter.tell("emit", phase="pass", count=many, tasks=CONCURRENCY)
    passed = _done(racer, worker, "pass", many)
    began = emitter.told()["began_ns"]
    rate = many / (passed["done_ns"] - began) * 1e9
    count = emitter.ask("singly", phase=IDLE, count=plan.bus_idle, seconds=plan.bus_seconds * 2)["count"]
    idle = _done(racer, worker, IDLE, count)
    paced = max(1, round(rate / 2 * plan.bus_seconds))
    emitter.tell("paced", phase=LOAD, count=paced, per_second=rate / 2)
    loaded = _done(racer, worker, LOAD, paced)
    span = emitter.told()
    racer.emitted.append(many / (sent["ended_ns"] - sent["began_ns"]) * 1e9)
    racer.drained.append(many / (drained["done_ns"] - drained["first_ns"]) * 1e9)
    racer.passed.append(rate)
    racer.load.append(paced / (span["ended_ns"] - span["began_ns"]) * 1e9)
    racer.idle_ns += idle["latency_ns"]
    racer.load_ns += loaded["latency_ns"]


def _done(racer: Racer, worker: Process, phase: str, count: int) -> dict[str, Any]:
    seen: dict[str, Any] = worker.ask("expect", phase=phase, count=count, seconds=_PATIENCE_SECONDS, all=True)
    racer.twice += seen["twice"]
    return seen


def _cpu(probe: Probe, before: Counters) -> int:
    return probe.look().since(before).cpu_us


def described() -> dict[str, Any]:
    """What is the same for all sides."""
    where = "emitter and worker are processes of their own on one CPU, the server is on another"
    return {"event_bytes": EVENT_BYTES, "concurrency": CONCURRENCY, "tasks": CONCURRENCY, "where": where}
