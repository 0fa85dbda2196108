"""Three agents over the bus, as the parent process sees it: one is killed in the middle, every effect is there once.

What belongs here: the order of events, and judging the outcome. What does not: what an agent does (`agent`).
Invariant: when `run` returns or raises, no agent runs; the parent writes nothing but the openings.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from uuid import UUID

from lukhas_redis.bus import ContextBus
from lukhas_redis.demo.agent import STAGES, AgentPlan
from lukhas_redis.demo.place import Place
from lukhas_redis.demo.screen import Screen
from lukhas_redis.models import Context
from lukhas_redis.store import ContextStore

JOBS = 12
SECONDS = 20.0
_POLL_SECONDS = 0.02
SESSION = "drafts"


@dataclass(frozen=True)
class PipelineReport:
    """What the pipeline did: drafts, the agent killed, events that were delivered once more, seconds."""

    drafts: int
    killed: str
    delivered_again: int
    seconds: float


@dataclass
class Pipeline:
    """One run of the pipeline."""

    place: Place
    store: ContextStore
    screen: Screen
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self) -> tuple[PipelineReport | None, list[str]]:
        """Let the agents write their drafts; the report, and everything that is not as it must be."""
        started, stuck = monotonic(), self.place.directory / "stuck"
        bus = ContextBus(self.store)
        try:
            self._start("researcher", "killed", stuck)
            self._start("planner", "1")
            self._open(bus)
            if not _until(stuck.exists):
                return None, [f"no researcher began within {SECONDS:.0f} s"]
            self._kill()
            # Not before: it could have done all the work while the other one was still starting.
            self._start("researcher", "1")
            self._start("writer", "1")
            if not _until(lambda: len(bus.history("draft.done", count=JOBS)) >= JOBS):
                return None, [f"{len(bus.history('draft.done', count=JOBS))} of {JOBS} drafts after {SECONDS:.0f} s"]
            faults = list(self._faults(bus))
            again = next(one.counts["taken_over"] for one in bus.status().groups if one.name == "researcher")
            return PipelineReport(JOBS, "researcher", again, monotonic() - started), faults
        finally:
            self._end()

    def _open(self, bus: ContextBus) -> None:
        for number, cid in enumerate(draft_ids()):
            task = f"draft {number}"
            self.store.preserve(SESSION, {"task": task, "messages": []}, context_id=cid, request_id=f"draft.{number}")
            payload = {"context_id": cid, "task": task}
            bus.emit("draft.planner", payload, context_id=cid, idempotency_key=f"draft {number}")

    def _start(self, stage: str, name: str, stuck: Path | None = None) -> None:
        plan = AgentPlan(self.place.url, self.place.tenant, stage, str(stuck or ""), os.getpid())
        with (self.place.directory / f"agent-{stage}-{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "lukhas_redis.demo.agent"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[f"{stage} {name}"] = process
        if process.stdin is not None:
            with process.stdin as pipe:
                pipe.write(plan.to_json().encode())

    def _kill(self) -> None:
        victim = self.processes["researcher killed"]
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        self.screen.line(f"  kill -9    researcher ({victim.pid}) in the middle of its handler")

    def _faults(self, bus: ContextBus) -> Iterator[str]:
        for cid, found in zip(draft_ids(), self.store.restore_many(draft_ids(), touch=False), strict=True):
            if not isinstance(found, Context):
                yield f"draft {cid}: {found}"
                continue
            roles = [message["role"] for message in found.data["messages"]]
            if roles != list(STAGES):
                yield f"draft {cid}: messages of {roles}, not of {list(STAGES)}"
            if (found.metadata.hop_count, found.metadata.owner) != (len(STAGES), "reader"):
                yield f"draft {cid}: {found.metadata.hop_count} hops, owned by {found.metadata.owner}"
        if letters := bus.dead_letters():
            yield f"{len(letters)} dead letters, the first: {letters[0].error}"
        if not any(group.counts["taken_over"] for group in bus.status().groups):
            yield "nobody took over the killed researcher's event"

    def _end(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def draft_ids() -> list[str]:
    """The contexts of the drafts, known in advance so that they can be removed again."""
    return [str(UUID(f"d4af7000-0000-4000-8000-{number:012x}")) for number in range(JOBS)]


def _until(reached: Callable[[], bool]) -> bool:
    deadline = monotonic() + SECONDS
    while not reached():
        if monotonic() > deadline:
            return False
        sleep(_POLL_SECONDS)
    return True
