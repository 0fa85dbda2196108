"""The JSON objects of the bus: stable names, one shape per kind of value.

What belongs here: from the bus's results to plain dicts. What does not: tables (each command has its own), contexts
(`shapes`).
Invariant: as for `shapes`: a name once printed keeps its meaning; times are milliseconds of the server's clock.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from lukhas_redis.bus_models import BusEvent, BusStatus, DeadLetter, Emitted, GroupStatus, Retired, Trimmed
from lukhas_redis.cli.shapes import data


def emitted(done: Emitted) -> dict[str, Any]:
    """What became of an event that was to be emitted."""
    names = ("event_id", "stream_id", "due_ms", "dry_run")
    return {name: getattr(done, name) for name in names}


def event(one: BusEvent) -> dict[str, Any]:
    """An event, with its payload as far as JSON has words for it."""
    names = (
        "event_id", "event", "priority", "source", "correlation_id", "causation_id", "ordering_key", "traceparent",
        "emitted_ms", "stream_id", "shard", "deliveries",
    )  # fmt: skip
    return {**{name: getattr(one, name) for name in names}, "payload": data(one.payload)}


def letter(one: DeadLetter) -> dict[str, Any]:
    """A dead letter, with its event, which is null when it cannot be read."""
    names = (
        "letter_id", "shard", "group", "reason", "handler", "error", "deliveries", "consumer", "died_ms", "event_id",
        "name", "priority",
    )  # fmt: skip
    return {**{name: getattr(one, name) for name in names}, "event": event(one.event) if one.event else None}


def pending(found: BusEvent | None, stream_id: str, worker: str, idle_ms: int, deliveries: int) -> dict[str, Any]:
    """A delivery that is not finished; its event is null when its entry is gone or cannot be read."""
    where = {"stream_id": stream_id, "worker": worker, "idle_ms": idle_ms, "deliveries": deliveries}
    return {**where, "event": event(found) if found else None}


def group(one: GroupStatus) -> dict[str, Any]:
    """How far a consumer group is."""
    names = ("name", "lag", "pending", "oldest_ms", "idle_ms")
    return {**{name: getattr(one, name) for name in names}, "workers": dict(one.workers), "counts": dict(one.counts)}


def status(found: BusStatus) -> dict[str, Any]:
    """What the bus holds."""
    names = ("tenant", "delayed", "dead", "dead_dropped", "lost")
    facts = {name: getattr(found, name) for name in names}
    sizes = {"lengths": dict(found.lengths), "emitted": dict(found.emitted)}
    return {**facts, **sizes, "groups": [group(one) for one in found.groups]}


def retired(done: Retired) -> dict[str, Any]:
    """A group that is no more."""
    return asdict(done)


def trimmed(done: Trimmed) -> dict[str, Any]:
    """What was forgotten."""
    return asdict(done)


def stream_ms(one: BusEvent) -> int:
    """When an event came into its stream: as it was emitted, or due, or given back."""
    return stream_order(one)[0]


def stream_order(one: BusEvent) -> tuple[int, int]:
    """Orders events by when they came into their streams."""
    ms, _, number = one.stream_id.partition("-")
    return int(ms), int(number)
