"""What tests of the metrics share: results as a store returns them, and a telemetry on a registry of its own.

What belongs here: the bench. What does not: tests; fixtures (each file of tests makes its own bench).
Invariant: no two benches share a metric.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from prometheus_client import CollectorRegistry

from lukhas_redis.models import Context, Handoff, Metadata, Preserved, Stats
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings
from lukhas_redis.telemetry import Telemetry

MB = 1_048_576
PRESERVED = Preserved("id", 1, 0, 0, "n", "session-1", "conversation", 1000, 400, 6, "c")
METADATA = Metadata("id", 1, "n", 1, "s", "conversation", None, 0, 0, 0, 60, None, 0, False, 9, 9, 0, "c", "d", 0)
RESTORED = Context({}, METADATA)
HANDED_OFF = Handoff("id", 2, 1, "claude", "gpt", 0)
STATS = Stats("t", "live", "evict_lru", 5, 0, 10, 10, 0, 0.5, {}, {})

Moves = dict[str, float]


class Bench:
    """A telemetry on a registry of its own, and what a call moves there."""

    def __init__(self, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.settings = Settings(**settings)
        self.telemetry = Telemetry.of(self.settings, self.registry)
        self.space = Space(self.settings, lambda: "0" * 32, "t")

    def samples(self) -> Moves:
        """Every sample by its name and labels, in one text."""
        return {
            _label(sample.name, sample.labels): sample.value
            for metric in self.registry.collect()
            for sample in metric.samples
            if not sample.name.endswith("_bucket")
        }

    def moved_by(self, operation: str, result: object, *, seconds: float = 0.02, **options: Any) -> Moves:
        """How far each sample moves (a gauge: where it moves to) when the call ends so; no new one at rest counts."""
        before = self.samples()
        if isinstance(result, BaseException):
            self.telemetry.failed(operation, self.space, result, seconds, **options)
        else:
            self.telemetry.succeeded(operation, self.space, result, seconds)
        after = self.samples()
        return {name: value - before.get(name, 0) for name, value in after.items() if value != before.get(name, 0)}


def _label(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return f"{name}[{inside}]" if inside else name


def preserved(**changes: Any) -> Preserved:
    """A preserved context, changed."""
    return dataclasses.replace(PRESERVED, **changes)


def series(bench: Bench, name: str) -> list[str]:
    """The samples of one name."""
    return [sample for sample in bench.samples() if sample.startswith(f"{name}[")]
