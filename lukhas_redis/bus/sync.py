"""The bus for threads: emitting, reading and acknowledging with blocking I/O.

What belongs here: a table of contents, and reading. What does not: running handlers (`aio`); background loops are
asyncio's.
Invariant: the operations are those of `AsyncContextBus`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from lukhas_redis.bus.aio import consumer_name
from lukhas_redis.bus_models import BusEvent, Returned
from lukhas_redis.calls import Op
from lukhas_redis.errors import GroupNotFound, TenantPaused
from lukhas_redis.ops import bus as ops
from lukhas_redis.ops.bus.common import group_name, known
from lukhas_redis.ops.bus.patterns import lua_patterns
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings
from lukhas_redis.shell import dress
from lukhas_redis.store import ContextStore

P = ParamSpec("P")
T = TypeVar("T")
_MOST_JOINS = 3


def _bus(op: Callable[Concatenate[Space, P], Op[T]]) -> Callable[Concatenate[ContextBus, P], T]:
    name = op.__name__

    def method(self: ContextBus, /, *args: P.args, **kwargs: P.kwargs) -> T:
        store = self.store
        return store.run(op(store.space, *args, **kwargs), name, dry_run=bool(kwargs.get("dry_run")))

    dress(method, op)
    return method


class ContextBus:
    """Events of one tenant, shared with every other worker; blocking.

    Give it a `ContextStore`, or make one with `connect`. Threads may share it.
    """

    def __init__(self, store: ContextStore) -> None:
        self.store = store
        self._owns_store = False
        self._consumer = consumer_name()
        self._joined: set[tuple[str, int]] = set()

    @classmethod
    def connect(cls, url: str | None = None, *, tenant: str | None = None, settings: Settings | None = None) -> Self:
        """A bus with a store of its own, see `ContextStore.connect`.

        Raises:
            InvalidArgument, InvalidId: The URL is no text or the tenant no name. A retry cannot help.
        """
        bus = cls(ContextStore.connect(url, tenant=tenant, settings=settings))
        bus._owns_store = True
        return bus

    emit = _bus(ops.emit)
    history = _bus(ops.history)
    replay = _bus(ops.replay)
    dead_letters = _bus(ops.dead_letters)
    redrive = _bus(ops.redrive)
    discard = _bus(ops.discard)
    status = _bus(ops.status)
    groups = _bus(ops.groups)
    pending = _bus(ops.pending)
    retire = _bus(ops.retire)
    trim = _bus(ops.trim)

    def read(
        self,
        group: str,
        *,
        count: int = 1,
        pattern: str | Sequence[str] = "*",
        wait: float = 0.0,
        hold_seconds: float | None = None,
        start: str = "all",
    ) -> list[BusEvent]:
        """Take up to `count` events for a group; they are this bus's until `ack`, `retry`, or `hold_seconds` are over.

        `wait`: seconds to wait for the first one. The group is made when it is not there. What cannot be read becomes
        a dead letter.

        Raises:
            InvalidArgument, InvalidId: Nothing was sent; do not retry.
            TenantPaused: Nothing is handed out now; retry later.
            Unavailable: Retry later.
            OutcomeUnknown: Events may have been taken; they come again when their hold lapses.
        """
        name, patterns = group_name(group), lua_patterns(pattern)
        store, settings = self.store, self.store.settings
        hold_ms = int((settings.bus_hold_seconds if hold_seconds is None else hold_seconds) * 1000)
        waiting = "@" + hashlib.sha256(name.encode()).hexdigest()[:16]
        ends = time.monotonic() + wait
        store.run(known(store.space), "discover")
        while True:
            for shard in range(store.space.shard_count):
                events = self._claim(name, count, patterns, hold_ms, waiting, start, shard)
                if events:
                    return events
            left = ends - time.monotonic()
            if left <= 0:
                return []
            self._wait(waiting, left, start, name)

    def _claim(
        self, group: str, count: int, patterns: Sequence[str], hold_ms: int, waiting: str, start: str, shard: int
    ) -> list[BusEvent]:
        store, joins = self.store, 0
        while joins < _MOST_JOINS:
            claimed = store.run(
                ops.claim(
                    store.space,
                    group,
                    self._consumer,
                    count,
                    patterns=patterns,
                    hold_ms=hold_ms,
                    max_deliveries=store.settings.bus_max_deliveries,
                    shard=shard,
                ),
                "claim",
            )
            if claimed is None:
                self._join(group, waiting, start, shard)
                joins += 1
                continue
            if claimed.state == "PAUSED":
                raise TenantPaused(f"tenant {store.tenant} is paused: no events are handed out; finishing them works")
            for one in claimed.unreadable:
                store.run(ops.give_back(store.space, group, self._consumer, one, reason="payload", error=one.error))
            # One call looks at so much and no more; behind what fits no pattern there may be what does.
            if claimed.events or not claimed.more:
                return list(claimed.events)
        return []

    def _wait(self, waiting: str, seconds: float, start: str, group: str) -> None:
        store = self.store
        settings = store.settings
        block = min(
            2000, int(seconds * 1000), int(min(settings.socket_timeout_seconds, settings.call_timeout_seconds) * 400)
        )
        if store.space.shard_count > 1 or settings.max_connections < 2:
            time.sleep(min(0.05, seconds))
            return
        try:
            store.run(ops.listen(store.space, self._consumer, waiting=waiting, block_ms=max(1, block)), "listen")
        except GroupNotFound:
            self._join(group, waiting, start, 0)

    def _join(self, group: str, waiting: str, start: str, shard: int) -> None:
        again = (group, shard) in self._joined
        self.store.run(
            ops.join(self.store.space, group, waiting=waiting, start=start, again=again, shard=shard), "join"
        )
        self._joined.add((group, shard))

    def ack(self, group: str, *events: BusEvent) -> dict[str, str]:
        """Finish events that `read` gave; by event id: DONE, FENCED (another has it) or GONE (finished before).

        Raises:
            Unavailable: Nothing is finished, or only some; retry, which does no harm.
        """
        states = self.store.run(ops.ack(self.store.space, group, self._consumer, events), "ack")
        return {one.event_id: state for one, state in zip(events, states, strict=True)}

    def retry(self, group: str, event: BusEvent, *, delay: float = 0.0, error: str = "") -> Returned:
        """Give an event back to be handled after `delay` seconds; after `bus_max_deliveries` it is a dead letter.

        Raises:
            Unavailable: Retry, or leave it: it comes again when its hold lapses.
        """
        most = self.store.settings.bus_max_deliveries
        step = ops.give_back(
            self.store.space, group, self._consumer, event, delay_ms=int(delay * 1000), max_deliveries=most, error=error
        )
        return self.store.run(step, "retry")

    def close(self) -> None:
        """Close the store's connections, when the bus made it."""
        if self._owns_store:
            self.store.close()

    def __enter__(self) -> Self:
        """Return the bus itself."""
        return self

    def __exit__(self, *_: Any) -> None:
        """Close."""
        self.close()
