"""What is measured every few seconds of a soak.

What belongs here: taking a sample. What does not: judging it (`steadiness`), showing it (`report`).
Invariant: a sample changes nothing and costs the server a few calls.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lukhas_redis.testing import RunningServer, TcpProxy
from tests.soak.crew import Crew


@dataclass(frozen=True, slots=True)
class Sample:
    """One moment; memory in bytes, `at` in seconds of load. `veteran_rss`: of the worker that is never killed."""

    at: float
    emitted: int
    done: int
    per_second: float
    lag: int
    pending: int
    oldest_ms: int
    delayed: int
    dead: int
    used_memory: int
    veteran_rss: int
    largest_rss: int
    keys: int
    stream_entries: int
    connections: int
    kills: int
    replies_lost: int


class Sampler:
    """Takes the samples of one soak."""

    def __init__(self, server: RunningServer, proxy: TcpProxy, crew: Crew) -> None:
        self._server = server
        self._proxy = proxy
        self._crew = crew
        self._began = 0.0
        self.samples: list[Sample] = []

    def take(self) -> Sample:
        """Measure now; time begins with the first sample."""
        self._began = self._began or time.monotonic()
        at, status = time.monotonic() - self._began, self._crew.bus.status()
        done = sum(group.counts["done"] for group in status.groups)
        last = self.samples[-1] if self.samples else None
        sizes = rss_of([member.process.pid for member in self._crew.of("work") if member.process.alive])
        sample = Sample(
            at=round(at, 1),
            emitted=sum(status.emitted.values()),
            done=done,
            per_second=round((done - last.done) / (at - last.at), 1) if last else 0.0,
            lag=sum(group.lag or 0 for group in status.groups),
            pending=sum(group.pending for group in status.groups),
            oldest_ms=max((group.oldest_ms for group in status.groups), default=0),
            delayed=status.delayed,
            dead=status.dead,
            used_memory=self._server.info("memory")["used_memory"],
            veteran_rss=sizes.get(self._crew.veteran, 0),
            largest_rss=max(sizes.values(), default=0),
            keys=int(self._server.admin.dbsize()),
            stream_entries=sum(status.lengths.values()),
            connections=self._server.info("clients")["connected_clients"],
            kills=self._crew.kills,
            replies_lost=self._proxy.dropped,
        )
        self.samples.append(sample)
        return sample


def rss_of(pids: list[int]) -> Mapping[int, int]:
    """The resident memory of processes in bytes; those that are gone are left out."""
    if not pids:
        return {}
    asked = ["ps", "-o", "pid=,rss=", "-p", ",".join(map(str, pids))]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    rows = [line.split() for line in answer.stdout.splitlines()]
    return {int(row[0]): int(row[1]) * 1024 for row in rows if len(row) == 2}
