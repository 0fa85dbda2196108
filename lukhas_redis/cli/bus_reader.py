"""Reading the streams of the bus from a position on, without a group.

What belongs here: cursors, and which events fit. What does not: where to begin and what to do with them (`tail`,
`bus`).
Invariant: the server is only read, and each entry is read once, in the order of the streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lukhas_redis.bus_models import PRIORITIES, BusEvent
from lukhas_redis.cli.bus_shapes import stream_order
from lukhas_redis.ops import bus as ops
from lukhas_redis.ops.bus.patterns import fitting as names_fitting
from lukhas_redis.store import ContextStore

_PAGE = 1000
_LAST_NUMBER = 2**64 - 1


def id_before(ms: int) -> str:
    """The stream id right before everything of a millisecond."""
    return f"{ms - 1}-{_LAST_NUMBER}" if ms > 0 else "0-0"


def fitting(patterns: Sequence[str]) -> Callable[[BusEvent], bool]:
    """Whether an event's name fits one of the patterns; without any, each does.

    Raises:
        InvalidArgument: One of them is malformed.
    """
    fits = names_fitting(patterns)
    return lambda event: fits(event.event)


class BusReader:
    """Reads every priority of every shard from where it read last."""

    def __init__(self, store: ContextStore, after: str, fits: Callable[[BusEvent], bool]) -> None:
        shards = store.stats().shards
        self._store = store
        self._began_ms = max(shard.now_ms for shard in shards)
        self._after = [dict.fromkeys(PRIORITIES, after) for _ in shards]
        self._fits = fits
        self._read: list[BusEvent] = []

    def new(self) -> list[BusEvent]:
        """What came since the last look, in the order of time; after an error the next call has all of it."""
        for shard in range(len(self._after)):
            while self._more(shard):
                pass
        found, self._read = self._read, []
        return sorted(found, key=stream_order)

    def _more(self, shard: int) -> bool:
        """Read a page; whether there may be another of what was there when the look began."""
        space, before = self._store.space, self._after[shard]
        page, after = self._store.run(ops.peek(space, before, count=_PAGE, shard=shard), "peek", dry_run=True)
        self._after[shard] = after
        self._read += filter(self._fits, page)
        # A short page is the last one, unless what it lacks could not be read. A bus that is busy never stands still.
        caught_up = max(int(one.partition("-")[0]) for one in after.values()) > self._began_ms
        return after != before and not (caught_up and len(page) < _PAGE)
