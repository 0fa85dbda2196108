"""Dry runs of a worker: looking at what it would be given, without joining or taking anything.

What belongs here: reading streams from where the group is. What does not: handling.
Invariant: the server is only read.
"""

from __future__ import annotations

from collections.abc import Sequence

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus.subscriptions import Subscription
from lukhas_redis.bus_models import BusEvent
from lukhas_redis.ops import bus as ops
from lukhas_redis.ops.bus.patterns import fitting


class Peek:
    """The reading position of one subscription on one shard, kept here alone."""

    def __init__(self, store: AsyncContextStore, subscription: Subscription, shard: int) -> None:
        self._store = store
        self._group = subscription.group
        self._fits = fitting(subscription.globs)
        self._shard = shard
        self._cursors: dict[str, str] | None = None

    async def next(self, count: int) -> Sequence[BusEvent]:
        """Up to `count` events after the last one seen, by priority."""
        if self._cursors is None:
            self._cursors = await self._store.run(
                ops.positions(self._store.space, self._group, shard=self._shard), "peek", dry_run=True
            )
        found, self._cursors = await self._store.run(
            ops.peek(self._store.space, self._cursors, count=count, shard=self._shard), "peek", dry_run=True
        )
        return [one for one in found if self._fits(one.event)]
