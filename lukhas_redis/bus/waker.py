"""Waiting for work without asking for it again and again.

What belongs here: one blocking read per shard that all idle subscriptions of a process share. What does not: claiming.
Invariant: a sign that this process cannot use is passed on to the next one.
"""

from __future__ import annotations

import asyncio
import logging

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.errors import GroupNotFound, LukhasRedisError
from lukhas_redis.ops import bus as ops

_LOG = logging.getLogger("lukhas_redis.bus")
BLOCK_MS = 2000
_POLL_SECONDS = 0.2


class Waker:
    """The waiting of one process on one shard."""

    def __init__(self, store: AsyncContextStore, waiting: str, consumer: str, shard: int) -> None:
        self._store = store
        self._waiting = waiting
        self._consumer = consumer
        self._shard = shard
        self._idle: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None
        settings = store.settings
        reply = min(settings.socket_timeout_seconds, settings.call_timeout_seconds)
        self._block_ms = max(1, min(BLOCK_MS, int(reply * 400)))
        # Where there is only one connection, waiting on it would stop everything else.
        self._may_block = settings.max_connections > 1
        self.group_lost = False

    async def wait(self, seconds: float) -> None:
        """Return when there may be something to claim, at the latest after `seconds`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds if self._may_block else min(seconds, _POLL_SECONDS), _finish, future)
        self._idle.add(future)
        if self._may_block and (self._task is None or self._task.done()):
            self._task = loop.create_task(self._listen())
        try:
            # One future and no task: what wakes a worker should not wait for more turns of the loop than it must.
            await future
        finally:
            timer.cancel()
            self._idle.discard(future)

    def interrupt(self) -> None:
        """Have whoever waits look up now."""
        self._wake()

    async def close(self) -> None:
        """Stop waiting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _listen(self) -> None:
        while self._idle:
            try:
                sign = await self._store.run(
                    ops.listen(
                        self._store.space,
                        self._consumer,
                        waiting=self._waiting,
                        block_ms=self._block_ms,
                        shard=self._shard,
                    ),
                    "listen",
                )
                if sign and not self._wake():
                    await self._store.run(ops.pass_on(self._store.space, shard=self._shard), "pass_on")
            except GroupNotFound:
                self.group_lost = True
                self._wake()
                return
            except LukhasRedisError as error:
                _LOG.debug("waiting for events: %s", error)
                self._wake()
                await asyncio.sleep(_POLL_SECONDS)

    def _wake(self) -> bool:
        woken = [future for future in self._idle if not future.done()]
        for future in woken:
            future.set_result(None)
        return bool(woken)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
