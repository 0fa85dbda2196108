"""How far each run is, from the store's own events.

What belongs here: reading the tenant's event stream into versions, and how long each has stood still. What does not:
asking for the events, deciding whose turn it is.
Invariant: a version here never goes back, and was in the store.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from lukhas_redis.models import Event

PAGE = 1000


@dataclass
class Board:
    """The latest version of each context and when it was first seen here; `after` is where to read on."""

    after: str = "0"
    versions: dict[str, int] = field(default_factory=dict)
    seen_at: dict[str, float] = field(default_factory=dict)

    def note(self, events: Iterable[Event], now: float) -> None:
        """Take in the events after `after`; `now` is a monotonic time in seconds."""
        for event in events:
            self.after = event.event_id
            if event.version > self.versions.get(event.context_id, 0):
                self.versions[event.context_id] = event.version
                self.seen_at[event.context_id] = now

    def version(self, context_id: str) -> int:
        """The latest version seen, 0 before the first."""
        return self.versions.get(context_id, 0)

    def still_for(self, context_id: str, now: float) -> float:
        """Seconds since its version last changed, as far as seen here."""
        return now - self.seen_at.get(context_id, now)
