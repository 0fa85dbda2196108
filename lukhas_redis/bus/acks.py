"""Acknowledgements of handlers that changed nothing: those that come together go together.

What belongs here: batching. What does not: commits with changes (`committing`).
Invariant: `finish` returns when the server has answered for this very event.
"""

from __future__ import annotations

import asyncio

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus_models import BusEvent, Unreadable
from lukhas_redis.errors import DeliveryLost, LukhasRedisError, OutcomeUnknown, Unavailable
from lukhas_redis.ops import bus as ops

_MOST = 100
_PAUSE_SECONDS = 0.1


class Acks:
    """The acknowledgements of one worker to one group."""

    def __init__(self, store: AsyncContextStore, group: str, consumer: str) -> None:
        self._store = store
        self._group = group
        self._consumer = consumer
        self._waiting: list[tuple[BusEvent, asyncio.Future[str]]] = []
        self._task: asyncio.Task[None] | None = None
        self._known: set[tuple[int, str]] = set()

    def has(self, event: BusEvent | Unreadable) -> bool:
        """Whether an event is on its way to be finished."""
        return (event.rank, event.stream_id) in self._known

    async def finish(self, event: BusEvent) -> None:
        """Finish a delivery, if it was not finished before.

        Raises:
            DeliveryLost: Another worker has it.
            LukhasRedisError: It was not finished, and trying again cannot help.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        self._waiting.append((event, future))
        self._known.add((event.rank, event.stream_id))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._send())
        try:
            state = await future
        finally:
            self._known.discard((event.rank, event.stream_id))
        if state == "FENCED":
            raise DeliveryLost(f"event {event.event_id} was taken over by another worker", state=state)

    async def _send(self) -> None:
        # Handlers that end in the same turn of the loop share one call.
        await asyncio.sleep(0)
        while self._waiting:
            part, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
            try:
                states = await self._store.run(
                    ops.ack(self._store.space, self._group, self._consumer, [event for event, _ in part]), "ack"
                )
            except (Unavailable, OutcomeUnknown):
                self._waiting = part + self._waiting
                await asyncio.sleep(_PAUSE_SECONDS)
            except LukhasRedisError as error:
                for _, future in part:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), state in zip(part, states, strict=True):
                    if not future.done():
                        future.set_result(state)
