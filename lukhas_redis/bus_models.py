"""Typed results and arguments of the bus: events, deliveries, dead letters, status.

What belongs here: immutable values. What does not: how they are asked for (`ops.bus`) or handled (`bus`).
Invariant: an `event_id` names an event for good; its stream id changes when it is delayed, redriven or replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

PRIORITIES: tuple[str, ...] = ("critical", "high", "normal", "low")
RANKS = {priority: rank for rank, priority in enumerate(PRIORITIES, 1)}


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be emitted, by `emit` or together with a write (`emit=`).

    `payload`: a dict, or a pydantic model or dataclass, which travels as a dict. `ordering_key`: events with one key
    and priority are handled one at a time, in order. `delay` (seconds or timedelta) or `at` (aware datetime): when it
    is delivered at the earliest.
    """

    event: str
    payload: Any = field(default_factory=dict)
    priority: str = "normal"
    source: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    ordering_key: str = ""
    delay: float | timedelta | None = None
    at: datetime | None = None
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Emitted:
    """An event that is on the bus; `stream_id` is "0-0" after a dry run."""

    event_id: str
    stream_id: str
    due_ms: int
    request_id: str = ""
    dry_run: bool = False

    @property
    def due_at(self) -> datetime:
        """When it is delivered at the earliest, in UTC, by the server's clock."""
        return datetime.fromtimestamp(self.due_ms / 1000, UTC)


@dataclass(frozen=True, slots=True)
class BusEvent:
    """An event as it reaches a handler; `emitted_ms` is the server's clock. `deliveries` counts this one."""

    event_id: str
    event: str
    payload: Any
    priority: str
    source: str
    correlation_id: str
    causation_id: str
    ordering_key: str
    traceparent: str
    emitted_ms: int
    stream_id: str
    shard: str
    deliveries: int = 0

    @property
    def emitted_at(self) -> datetime:
        """When the server took it, in UTC."""
        return datetime.fromtimestamp(self.emitted_ms / 1000, UTC)

    @property
    def rank(self) -> int:
        """1 = critical to 4 = low."""
        return RANKS[self.priority]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An event whose payload cannot be read; `error` says why. It becomes a dead letter."""

    rank: int
    stream_id: str
    deliveries: int
    shard: str
    error: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a worker was given; `next_ms`: how long until more is due (None: nothing is known to come).

    `more`: look again at once. `state`: OK, DRY or PAUSED.
    """

    events: tuple[BusEvent, ...]
    unreadable: tuple[Unreadable, ...] = ()
    next_ms: int | None = None
    more: bool = False
    state: str = "OK"


@dataclass(frozen=True, slots=True)
class Committed:
    """A delivery finished together with what its handler changed; `results` are those of the operations, in order."""

    results: tuple[Any, ...]
    emitted: int
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Returned:
    """What became of an event that was not handled: `state` is RETRY, DEAD, FENCED, GONE or DRY."""

    state: str
    due_ms: int | None = None
    letter_id: str | None = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that a group gave up, with why, where it came from, and itself; `event` is None when unreadable."""

    letter_id: str
    shard: str
    group: str
    reason: str
    handler: str
    error: str
    deliveries: int
    consumer: str
    died_ms: int
    event_id: str
    name: str
    priority: str
    event: BusEvent | None


@dataclass(frozen=True, slots=True)
class GroupStatus:
    """How far one consumer group is: `lag` events not delivered yet (None: the server does not know), `pending` in hand
    or waiting for a retry or their ordering key, `oldest_ms` the age of the oldest unfinished one.

    `workers`: pending events per worker, `@waiting` being those nobody has. `counts`: delivered, done, retried, dead,
    taken_over, skipped, parked, lost, healed. `idle_ms`: since any worker last asked.
    """

    name: str
    lag: int | None
    pending: int
    oldest_ms: int
    idle_ms: int | None
    workers: Mapping[str, int]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class BusStatus:
    """What the bus holds, over all shards of a tenant. `lengths` and `emitted` by priority; `lost` over all groups.

    `dead`: dead letters that are there. `dead_dropped`: those that went for want of room (`bus_max_dead_letters`); what
    was redriven or discarded is in neither.
    """

    tenant: str
    lengths: Mapping[str, int]
    emitted: Mapping[str, int]
    delayed: int
    dead: int
    dead_dropped: int
    groups: tuple[GroupStatus, ...]

    @property
    def lost(self) -> int:
        """Events that groups had in hand and that vanished from their streams."""
        return sum(group.counts.get("lost", 0) for group in self.groups)


class History(list[BusEvent]):
    """Events of the history, oldest first. `partial`: the search ended before it had seen all that is kept.

    It then looked at the newest entries of each stream (with `newest=False`: the oldest), and others may fit as well.
    """

    def __init__(self, events: Iterable[BusEvent] = (), *, partial: bool = False) -> None:
        super().__init__(events)
        self.partial = partial


@dataclass(frozen=True, slots=True)
class Replayed:
    """Events given to a group once more: how many were still there."""

    group: str
    events: int
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Redriven:
    """Dead letters given back to the groups they died in, by their ids, in the order they were named per shard."""

    letter_ids: tuple[str, ...]
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Discarded:
    """Dead letters thrown away: how many there were."""

    letters: int
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Trimmed:
    """Finished events forgotten, and idle workers taken off the books."""

    events: int
    workers: int
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Retired:
    """A consumer group that is no more; `unfinished` events were given up."""

    group: str
    existed: bool
    unfinished: int
    dry_run: bool = False
