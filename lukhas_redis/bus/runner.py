"""One subscription on one shard: joining its group, claiming as much as there is room for, waiting, ending.

What belongs here: the loop. What does not: what becomes of an event (`hands`), rules (`lua`), waiting (`waker`).
Invariant: never more in hand than there are slots.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus.hands import Hands, Progress
from lukhas_redis.bus.peeking import Peek
from lukhas_redis.bus.subscriptions import Subscription
from lukhas_redis.bus.waker import Waker
from lukhas_redis.errors import AccessDenied, InvalidArgument, LukhasRedisError, OutcomeUnknown, Unavailable
from lukhas_redis.ops import bus as ops

_LOG = logging.getLogger("lukhas_redis.bus")
_IDLE_SECONDS = 2.0
_PAUSED_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0


class Runner:
    """A subscription at work on one shard."""

    def __init__(
        self,
        store: AsyncContextStore,
        subscription: Subscription,
        consumer: str,
        waiting: str,
        waker: Waker,
        shard: int,
        *,
        dry_run: bool,
    ) -> None:
        self._store = store
        self._sub = subscription
        self._consumer = consumer
        self._waiting = waiting
        self._waker = waker
        self._shard = shard
        self._dry = dry_run
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._recover = False
        self._quiet = False
        self._joined = False
        self._hands = Hands(store, subscription, consumer, self._stopping)
        self._peek = Peek(store, subscription, shard)

    @property
    def progress(self) -> Progress:
        """What it has done."""
        return self._hands.progress

    @property
    def in_hand(self) -> int:
        """How many events it has."""
        return len(self._hands)

    # -- the loop ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop`; errors of the server are waited out, but those that only an operator can mend.

        Raises:
            AccessDenied: The worker lacks a right.
        """
        keeping = asyncio.create_task(self._hands.keep())
        pause = 0.05
        try:
            if not self._dry:
                await self._patiently(self._join)
            while not self._stopping.is_set():
                if self._quiet:
                    await self._stopping.wait()
                    break
                try:
                    await self._turn()
                    pause = 0.05
                except AccessDenied:
                    raise
                except LukhasRedisError as error:
                    self._recover = True
                    _LOG.warning("group %s: %s; looking again in %.2f s", self._sub.group, error, pause)
                    await self._sleep(pause)
                    pause = min(_LONGEST_PAUSE_SECONDS, pause * 2)
        finally:
            self._ended.set()
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def _turn(self) -> None:
        """Take what there is room for, or wait for room, or for something to take."""
        free = self._hands.room
        if free <= 0:
            await self._hands.until_room()
            return
        if self._dry:
            await self._peeked(free)
            return
        if self._waker.group_lost:
            self._waker.group_lost = False
            await self._join()
        asked = min(free, 1000)
        claimed = await self._claim(asked)
        if claimed is None:
            await self._join()
            return
        if claimed.state == "DRY":
            await self._peeked(free)
            return
        if claimed.state == "PAUSED":
            await self._sleep(_PAUSED_SECONDS)
            return
        for one in claimed.unreadable:
            await self._hands.bury(one)
        self._hands.take(claimed.events)
        # Whoever got less than it asked for has all there is; a sign tells of what comes after.
        if len(claimed.events) < asked and not claimed.more and not claimed.unreadable and not self._stopping.is_set():
            limit = _IDLE_SECONDS if claimed.next_ms is None else min(_IDLE_SECONDS, claimed.next_ms / 1000)
            await self._waker.wait(limit)

    async def _claim(self, count: int) -> Any:
        recover, self._recover = self._recover, False
        self._hands.progress.claims += 1
        sub = self._sub
        try:
            return await self._store.run(
                ops.claim(
                    self._store.space,
                    sub.group,
                    self._consumer,
                    count,
                    patterns=sub.patterns,
                    hold_ms=int(sub.hold_seconds * 1000),
                    max_deliveries=sub.max_deliveries,
                    recover=recover,
                    shard=self._shard,
                ),
                "claim",
            )
        except BaseException:
            self._recover = True
            raise

    async def _peeked(self, free: int) -> None:
        events = await self._peek.next(free)
        if not self._hands.take(events, dry=True):
            await self._sleep(_PAUSED_SECONDS)

    async def _join(self) -> None:
        sub = self._sub
        created, healed = await self._store.run(
            ops.join(
                self._store.space,
                sub.group,
                waiting=self._waiting,
                start=sub.start,
                again=self._joined,
                shard=self._shard,
            ),
            "join",
        )
        again, self._joined = self._joined, True
        if healed and created and again:
            _LOG.warning("group %s was lost with its books and begins again with what is there", sub.group)
        elif healed:
            _LOG.warning("group %s was lost from %d streams and goes on where it was", sub.group, healed)
        elif created:
            _LOG.info("group %s is new", sub.group)

    async def _patiently(self, step: Any) -> None:
        while not self._stopping.is_set():
            try:
                await step()
            except (Unavailable, OutcomeUnknown) as error:
                _LOG.warning("group %s: %s", self._sub.group, error)
                await self._sleep(_PAUSED_SECONDS)
            else:
                return

    # -- the end ----------------------------------------------------------------------------------------------

    def quiet(self) -> None:
        """Take nothing more; what is in hand goes on."""
        self._quiet = True
        self._waker.interrupt()

    async def stop(self, grace_seconds: float) -> None:
        """Take nothing more; what is in hand may end within `grace_seconds`, then it is given back."""
        self._stopping.set()
        self._hands.interrupt()
        self._waker.interrupt()
        # What a claim on its way brings is in hand, too.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), min(max(grace_seconds, 1.0), _LONGEST_PAUSE_SECONDS))
        await self._hands.end(grace_seconds)

    async def leave(self) -> None:
        """Take this worker off the books."""
        if self._dry:
            return
        with suppress(LukhasRedisError, InvalidArgument):
            await self._store.run(
                ops.leave(self._store.space, self._sub.group, self._consumer, waiting=self._waiting, shard=self._shard),
                "leave",
            )

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
