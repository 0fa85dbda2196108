"""What a worker handles, and within which limits.

What belongs here: one immutable value. What does not: checking it (`aio`), working on it (`runner`).
Invariant: it was checked when it was made.
"""

from __future__ import annotations

from dataclasses import dataclass

from lukhas_redis.bus.handlers import Signature


@dataclass(frozen=True)
class Subscription:
    """What a worker handles: names, handler, and its limits; times in seconds."""

    group: str
    patterns: tuple[str, ...]
    globs: tuple[str, ...]
    signature: Signature
    concurrency: int
    prefetch: int
    max_deliveries: int
    start: str
    timeout: float | None
    hold_seconds: float
    first_backoff_seconds: float
    longest_backoff_seconds: float
