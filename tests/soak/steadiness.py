"""Whether something grows as long as the load is the same.

What belongs here: comparing the second quarter of a soak with its last, and the slope. What does not: measuring.
Invariant: the bound is stated with the figures, and a soak too short to tell says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression, median

from tests.soak.sampling import Sample

MB = 1_048_576
SHORTEST_SECONDS = 110.0


@dataclass(frozen=True, slots=True)
class Bound:
    """How much more the last quarter may have than the second: a share of it, and something for chance."""

    name: str
    title: str
    unit: str
    scale: float
    share: float
    slack: float


BOUNDS = (
    Bound("used_memory", "memory of the server", "MB", MB, 0.10, 0.5),
    Bound("veteran_rss", "memory of a worker", "MB", MB, 0.05, 2.0),
    Bound("keys", "keys", "keys", 1, 0.15, 100),
    Bound("stream_entries", "events kept", "events", 1, 0.20, 300),
    Bound("connections", "connections", "connections", 1, 0.10, 4),
)


@dataclass(frozen=True, slots=True)
class Growth:
    """Medians of the second and the last quarter, and the slope from the second on, all in the bound's unit."""

    bound: Bound
    second: float
    last: float
    per_minute: float
    seconds: float

    @property
    def judged(self) -> bool:
        """Whether the soak was long enough."""
        return self.seconds >= SHORTEST_SECONDS

    @property
    def steady(self) -> bool:
        """Whether it stays within the bound."""
        return not self.judged or self.last <= self.second * (1 + self.bound.share) + self.bound.slack

    def __str__(self) -> str:
        bound = f"bound: +{self.bound.share:.0%} and {self.bound.slack:g} {self.bound.unit}"
        text = (
            f"{self.second:.2f} {self.bound.unit} in the second quarter, {self.last:.2f} in the last, "
            f"{self.per_minute:+.3f} a minute; {bound}"
        )
        return text if self.judged else f"{text}; not judged below {SHORTEST_SECONDS:g} s"


def growth_of(bound: Bound, samples: Sequence[Sample]) -> Growth:
    """How one measure grew."""
    ends = samples[-1].at if samples else 0.0
    values = [(one.at, getattr(one, bound.name) / bound.scale) for one in samples]
    second = [value for at, value in values if ends / 4 <= at < ends / 2]
    last = [value for at, value in values if at >= ends * 3 / 4]
    later = [(at, value) for at, value in values if at >= ends / 4]
    if not second or not last or len(later) < 3:
        return Growth(bound, 0.0, 0.0, 0.0, 0.0)
    slope = linear_regression([at for at, _ in later], [value for _, value in later]).slope
    return Growth(bound, median(second), median(last), slope * 60, ends)
