"""Commits of what handlers changed: tried until it is known what became of them.

What belongs here: when a commit is sent again. What does not: what is in it (`transactions`), acknowledgements of
handlers that changed nothing (`acks`), giving an event back (`hands`).
Invariant: a delivery ends once, so sending its commit again is safe whatever became of the last one.
"""

from __future__ import annotations

import asyncio
import logging

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus.transactions import Transaction
from lukhas_redis.bus_models import BusEvent
from lukhas_redis.errors import (
    LukhasRedisError,
    OutcomeUnknown,
    StoreFull,
    TenantPaused,
    Throttled,
    Unavailable,
)
from lukhas_redis.ops import bus as ops

_LOG = logging.getLogger("lukhas_redis.bus")
_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 5.0

NO_ROOM = (Throttled, StoreFull)
"""The tenant takes no more for now (`Backlog` is a `StoreFull`): no fault of the handler or its event."""


class Commits:
    """The commits of one worker for one group."""

    def __init__(self, store: AsyncContextStore, group: str, consumer: str, *, patience_seconds: float) -> None:
        self._store = store
        self._group = group
        self._consumer = consumer
        self._patience_seconds = patience_seconds

    async def finish(self, event: BusEvent, tx: Transaction) -> None:
        """Commit a transaction with the end of its delivery; `tx.results` are there afterwards.

        A server that is away and a tenant that is paused are waited for without end.

        Raises:
            Throttled, StoreFull: The tenant had no room for the whole of the patience; nothing was written.
            DeliveryLost: Another worker has the event, or it was finished before.
            LukhasRedisError: Nothing was written, and trying again cannot help.
        """
        pause, ends, now = _FIRST_PAUSE_SECONDS, None, asyncio.get_running_loop().time
        while True:
            operations, events = tx.close()
            step = ops.commit(
                self._store.space, operations, events, delivery=event, group=self._group, consumer=self._consumer
            )
            try:
                tx.results = (await self._store.run(step, "commit")).results
            except (Unavailable, OutcomeUnknown, TenantPaused, *NO_ROOM) as error:
                if isinstance(error, NO_ROOM):
                    ends = now() + self._patience_seconds if ends is None else ends
                    if now() >= ends:
                        # Its place may be needed for the very events that would make room.
                        raise
                _LOG.info("event %s: %s; committing again", event.event_id, error)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)
            else:
                return

    async def rehearse(self, event: BusEvent, tx: Transaction) -> None:
        """Have a transaction checked without changing anything; what would be refused is logged."""
        operations, events = tx.close()
        step = ops.commit(self._store.space, operations, events, delivery=event, dry_run=True)
        try:
            await self._store.run(step, "commit", dry_run=True)
        except LukhasRedisError as error:
            _LOG.warning("dry run of event %s: %s", event.event_id, error)
