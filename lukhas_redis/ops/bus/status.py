"""status: what the bus holds and how far its groups are, from the server's own books.

What belongs here: reading `lua/status.lua` and the groups' hashes. What does not: judging it (`bus`, alerts).
Invariant: nothing is changed, and no key is scanned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lukhas_redis.bus_models import PRIORITIES, BusStatus, GroupStatus
from lukhas_redis.calls import Call, Op, Read, Refused
from lukhas_redis.keys import ShardKeys
from lukhas_redis.ops.bus.common import STREAMS, bus_keys, known
from lukhas_redis.ops.describe import pairs
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space
from lukhas_redis.scripts import load

COUNTS: tuple[str, ...] = ("delivered", "done", "retried", "dead", "taken_over", "skipped", "parked", "lost", "healed")


class _Group:
    """What the shards say of one group, added up."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lag: int | None = 0
        self.pending = self.oldest_ms = 0
        self.idle_ms: int | None = None
        self.workers: dict[str, int] = {}
        self.counts = dict.fromkeys(COUNTS, 0)

    def add_stream(self, row: Sequence[Any], now_ms: int) -> None:
        _, pending, lag, _, oldest, workers, first = row
        self.pending += int(pending)
        self.lag = None if self.lag is None or not lag else self.lag + int(lag)
        for unfinished in (oldest, first):
            if unfinished:
                self.oldest_ms = max(self.oldest_ms, now_ms - _ms(unfinished))
        for worker, count in zip(workers[::2], workers[1::2], strict=True):
            name = worker.decode()
            self.workers[name] = self.workers.get(name, 0) + int(count)

    def add_counts(self, found: Mapping[str, bytes], now_ms: int) -> None:
        for name in COUNTS:
            self.counts[name] += int(found.get(name) or 0)
        if seen := found.get("seen_ms"):
            idle = max(0, now_ms - int(seen))
            self.idle_ms = idle if self.idle_ms is None else min(self.idle_ms, idle)

    def done(self) -> GroupStatus:
        return GroupStatus(
            self.name, self.lag, self.pending, self.oldest_ms, self.idle_ms, dict(self.workers), dict(self.counts)
        )


def status(space: Space) -> Op[BusStatus]:
    """What the bus holds, and per consumer group: lag, pending, age of the oldest, workers, counts of record.

    Raises:
        ContextCorrupted: Somebody else wrote to a key of ours.
        Unavailable: Retry later.
    """
    yield from known(space)
    lengths: dict[str, int] = dict.fromkeys(PRIORITIES, 0)
    emitted: dict[str, int] = dict.fromkeys(PRIORITIES, 0)
    delayed = dead = dropped = 0
    groups: dict[str, _Group] = {}
    for keys in space.all_shards():
        reply = yield from books(space, keys)
        now_ms, streams = int(reply[0]), reply[2]
        for priority, (info, readers) in zip(PRIORITIES, streams, strict=True):
            lengths[priority] += int(info[0])
            emitted[priority] += int(info[1])
            for row in readers:
                group = groups.setdefault(row[0].decode(), _Group(row[0].decode()))
                group.add_stream(row, now_ms)
        delayed += int(reply[3][0])
        dead += int(reply[4][0])
        # Its stream was deleted by hand: what was taken from the one before says nothing of this one.
        dropped += max(0, int(reply[4][1]) - int(reply[4][0]) - int(reply[6]))
        for name in pairs(reply[5]):
            groups.setdefault(name, _Group(name))
        for name, group in groups.items():
            found = yield Read(keys.tag, ("HGETALL", keys.group(name)))
            group.add_counts(pairs(found), now_ms)
    everyone = tuple(groups[name].done() for name in sorted(groups))
    return BusStatus(space.tenant, lengths, emitted, delayed, dead, dropped, everyone)


def books(space: Space, keys: ShardKeys) -> Op[Any]:
    """What `lua/status.lua` says of a shard.

    Raises:
        ContextCorrupted: Somebody else wrote to a key of ours.
        Unavailable: Retry later.
    """
    script = load("status")
    try:
        return (yield Call(script, keys.tag, script.pack(bus_keys(keys, *STREAMS, "later", "dead", "groups"), {})))
    except Refused as refused:
        raise explain(refused, f"bus of tenant {space.tenant}") from None


def _ms(stream_id: bytes) -> int:
    return int(stream_id.split(b"-")[0])
