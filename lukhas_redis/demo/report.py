"""The result of a demo as numbers: latencies against the targets, bytes, what happened.

What belongs here: making the numbers. What does not: laying them out (see `layout`).
Invariant: percentiles are of single calls as a worker saw them, by nearest rank, in milliseconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lukhas_redis.demo.evidence import Evidence
from lukhas_redis.demo.looking import Sight
from lukhas_redis.demo.pipeline import PipelineReport
from lukhas_redis.demo.sessions import Session
from lukhas_redis.documents import SLA_TARGETS
from lukhas_redis.models import Context


@dataclass(frozen=True)
class Latency:
    """One operation: how often, how long, and whether that is within its target."""

    operation: str
    count: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    target: str
    met: bool


@dataclass(frozen=True)
class RunSize:
    """One run at its end: messages, bytes serialized and bytes stored."""

    run: int
    name: str
    messages: int
    raw_bytes: int
    stored_bytes: int

    @property
    def ratio(self) -> float:
        """Stored bytes per serialized byte."""
        return self.stored_bytes / self.raw_bytes if self.raw_bytes else 1.0


@dataclass(frozen=True)
class Report:
    """Everything the demo has to say; `faults` is empty when everything was verified."""

    server: str
    seconds: float
    latencies: Sequence[Latency]
    sizes: Sequence[RunSize]
    killed: str
    stuck_at: tuple[int, int]
    takeovers: Sequence[tuple[int, int, str, str]]
    sight: Sight | None
    faults: Sequence[str]
    pipeline: PipelineReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report for JSON."""
        return {"verified": not self.faults, **asdict(self)}


def latencies(reports: Mapping[str, Mapping[str, Any]]) -> list[Latency]:
    """The samples of all workers together, per operation."""
    merged = {
        name: [ms for report in reports.values() for ms in report["samples"][name]]
        for name in ("preserve", "restore", "handoff")
    }
    return [_latency(name, sorted(samples)) for name, samples in merged.items()]


def _latency(name: str, samples: list[float]) -> Latency:
    p50, p99, longest = percentile(samples, 0.50), percentile(samples, 0.99), percentile(samples, 1.0)
    limits = {"preserve": SLA_TARGETS.preserve_ms_max, "restore": SLA_TARGETS.restore_ms_max}
    if name in limits:
        return Latency(name, len(samples), p50, p99, longest, f"< {limits[name]:.0f}", 0 < p99 < limits[name])
    half, most = SLA_TARGETS.handoff_ms_p50, SLA_TARGETS.handoff_ms_p99
    met = 0 < p50 < half and p99 < most
    return Latency(name, len(samples), p50, p99, longest, f"p50 < {half:.0f}, p99 < {most:.0f}", met)


def percentile(samples: Sequence[float], share: float) -> float:
    """The smallest sample that at least `share` (0..1) of the sorted samples do not exceed; 0 without samples."""
    return samples[max(0, math.ceil(share * len(samples)) - 1)] if samples else 0.0


def sizes(sessions: Sequence[Session], evidence: Evidence) -> list[RunSize]:
    """What each run that could be restored takes."""
    return [
        RunSize(
            session.number,
            session.conversation.name,
            len(context.data["messages"]),
            context.metadata.raw_bytes,
            context.metadata.stored_bytes,
        )
        for session, context in zip(sessions, evidence.contexts, strict=True)
        if isinstance(context, Context)
    ]
