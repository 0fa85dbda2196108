"""One subscription on one shard: claiming, handling, committing, and keeping what is in hand.

What belongs here: the life of deliveries in a worker. What does not: rules (`lua`), waiting (`waker`).
Invariant: never more in hand than there are slots; whatever is in hand shows a sign of life three times per hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus.acks import Acks
from lukhas_redis.bus.committing import NO_ROOM, Commits
from lukhas_redis.bus.handlers import Failure, backoff_ms, judge, refused
from lukhas_redis.bus.peeking import Peek
from lukhas_redis.bus.subscriptions import Subscription
from lukhas_redis.bus.transactions import Transaction
from lukhas_redis.bus.waker import Waker
from lukhas_redis.bus_models import BusEvent, Unreadable
from lukhas_redis.errors import (
    AccessDenied,
    DeliveryLost,
    InvalidArgument,
    LukhasRedisError,
    OutcomeUnknown,
    Unavailable,
)
from lukhas_redis.ops import bus as ops

_LOG = logging.getLogger("lukhas_redis.bus")
_IDLE_SECONDS = 2.0
_PAUSED_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 5.0


@dataclass
class Progress:
    """What a worker has done since it began."""

    handled: int = 0
    retried: int = 0
    dead: int = 0
    lost: int = 0
    peeked: int = 0
    claims: int = 0


@dataclass(eq=False)
class _InHand:
    """A delivery; `lost`: another has it, `returned`: it is on its way back and may come again at any moment."""

    event: BusEvent
    task: asyncio.Task[None] = field(init=False)
    lost: bool = False
    returned: bool = False


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
        self._hands: dict[str, _InHand] = {}
        self._slots = asyncio.Semaphore(subscription.concurrency)
        self._free = asyncio.Event()
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._recover = False
        self._quiet = False
        self._joined = False
        self._acks = Acks(store, subscription.group, consumer)
        self._commits = Commits(store, subscription.group, consumer, patience_seconds=subscription.hold_seconds)
        self._peek = Peek(store, subscription, shard)
        self.progress = Progress()

    # -- the loop ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Work until `stop`; errors of the server are waited out, but those that only an operator can mend.

        Raises:
            AccessDenied: The worker lacks a right.
        """
        keeping = asyncio.create_task(self._keep())
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
        free = self._sub.concurrency + self._sub.prefetch - len(self._hands)
        if free <= 0:
            self._free.clear()
            await self._free.wait()
            # What ends in the same turn of the loop makes room together: one claim for all of it.
            await asyncio.sleep(0)
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
            await self._bury(one)
        self._take(claimed.events)
        # Whoever got less than it asked for has all there is; a sign tells of what comes after.
        if len(claimed.events) < asked and not claimed.more and not claimed.unreadable and not self._stopping.is_set():
            limit = _IDLE_SECONDS if claimed.next_ms is None else min(_IDLE_SECONDS, claimed.next_ms / 1000)
            await self._waker.wait(limit)

    async def _claim(self, count: int) -> Any:
        recover, self._recover = self._recover, False
        self.progress.claims += 1
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
        if not self._take(events, dry=True):
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

    # -- handling ---------------------------------------------------------------------------------------------

    def _take(self, events: Iterable[BusEvent], *, dry: bool = False) -> int:
        took = 0
        for event in events:
            name = f"{event.rank}/{event.stream_id}"
            known = self._hands.get(name)
            if known is not None and not known.returned:
                if known.event.deliveries >= event.deliveries:
                    # After a lost reply the books name what is in hand as well.
                    continue
                # The hold of the earlier delivery lapsed unnoticed, so nothing of it can be committed.
                self._lost(known)
            hand = self._hands[name] = _InHand(event)
            hand.task = asyncio.create_task(self._handle(name, hand, dry=dry))
            took += 1
        return took

    async def _handle(self, name: str, hand: _InHand, *, dry: bool) -> None:
        event = hand.event
        try:
            async with self._slots:
                tx = Transaction(self._store.space, event)
                try:
                    async with asyncio.timeout(self._sub.timeout):
                        await self._sub.signature.handler(*self._sub.signature.arguments(event, tx))
                except Exception as error:  # noqa: BLE001 - whatever a handler raises is its event's fate, not ours
                    await self._failed(hand, judge(error), dry=dry)
                else:
                    await self._finish(hand, tx, dry=dry)
        except asyncio.CancelledError as error:
            if await self._cancelled(hand, error, dry=dry):
                raise
        finally:
            if self._hands.get(name) is hand:
                del self._hands[name]
            self._free.set()

    async def _cancelled(self, hand: _InHand, error: asyncio.CancelledError, *, dry: bool) -> bool:
        """See to an event whose handling was cancelled; whether it was from outside."""
        if not hand.lost and not self._stopping.is_set():
            # By the handler itself, or by what it waited for: its failure, which counts like any other.
            task = asyncio.current_task()
            while task is not None and task.cancelling():
                task.uncancel()
            await self._failed(hand, judge(error), dry=dry)
            return False
        if not dry and not hand.lost and not hand.returned:
            # By `stop`: it was not handled, so the delivery does not count.
            hand.returned = True
            with suppress(LukhasRedisError):
                failure = Failure("stopped", "the worker stopped", delay_ms=0, counted=False)
                await asyncio.shield(self._give_back(hand.event, failure))
        return True

    def _lost(self, hand: _InHand) -> None:
        event = hand.event
        _LOG.warning("group %s: event %s was taken over by another worker", self._sub.group, event.event_id)
        hand.lost = True
        self.progress.lost += 1
        hand.task.cancel()

    async def _finish(self, hand: _InHand, tx: Transaction, *, dry: bool) -> None:
        event = hand.event
        if dry:
            await self._commits.rehearse(event, tx)
            self.progress.peeked += 1
            return
        try:
            if tx.is_empty:
                await self._acks.finish(event)
            else:
                await self._commits.finish(event, tx)
        except DeliveryLost as error:
            if error.fields.get("state") != "GONE":
                self.progress.lost += 1
                _LOG.warning("group %s: %s", self._sub.group, error)
            return
        except NO_ROOM as error:
            _LOG.warning("group %s: event %s waits, which does not count: %s", self._sub.group, event.event_id, error)
            await self._failed(hand, refused(error, self._sub.longest_backoff_seconds), dry=dry)
            return
        except LukhasRedisError as error:
            await self._failed(hand, judge(error), dry=dry)
            return
        self.progress.handled += 1

    async def _failed(self, hand: _InHand, failure: Failure, *, dry: bool) -> None:
        event = hand.event
        if dry:
            _LOG.warning("dry run of event %s: %s", event.event_id, failure.error)
            self.progress.peeked += 1
            return
        hand.returned = True
        try:
            await self._give_back(event, failure)
        except LukhasRedisError as error:
            _LOG.warning("event %s stays until its hold lapses: %s", event.event_id, error)

    async def _give_back(self, event: BusEvent | Unreadable, failure: Failure) -> None:
        sub = self._sub
        delay = failure.delay_ms
        if delay is None:
            delay = backoff_ms(event.deliveries, sub.first_backoff_seconds, sub.longest_backoff_seconds)
        returned = await self._store.run(
            ops.give_back(
                self._store.space,
                sub.group,
                self._consumer,
                event,
                delay_ms=delay,
                max_deliveries=0 if failure.final else sub.max_deliveries,
                counted=failure.counted,
                reason=failure.reason,
                handler=sub.signature.name,
                error=failure.error,
            ),
            "retry",
        )
        if returned.state == "DEAD":
            self.progress.dead += 1
            _LOG.error("group %s gave up an event (%s): %s", sub.group, failure.reason, failure.error)
        elif returned.state == "RETRY" and failure.counted:
            self.progress.retried += 1
            _LOG.info("group %s tries again in %d ms: %s", sub.group, delay, failure.error)

    async def _bury(self, one: Unreadable) -> None:
        await self._give_back(one, Failure("payload", one.error, final=True))

    # -- signs of life ----------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Show that the worker lives; cancel the handlers of what was taken over all the same."""
        hold_ms = int(self._sub.hold_seconds * 1000)
        while True:
            await asyncio.sleep(self._sub.hold_seconds / 3)
            held = {name: hand for name, hand in self._hands.items() if hand.event.deliveries}
            if not held or self._dry:
                continue
            try:
                lost = await self._store.run(
                    ops.hold(
                        self._store.space,
                        self._sub.group,
                        self._consumer,
                        [hand.event for hand in held.values()],
                        hold_ms=hold_ms,
                    ),
                    "hold",
                )
            except LukhasRedisError as error:
                _LOG.warning("group %s: no sign of life: %s", self._sub.group, error)
                continue
            for event in lost:
                hand = held.get(f"{event.rank}/{event.stream_id}")
                # One that is finished is on its way out; the commit itself decides about all others.
                if hand is not None and not hand.task.done() and not self._acks.has(event):
                    self._lost(hand)

    @property
    def in_hand(self) -> int:
        """How many events it has."""
        return len(self._hands)

    # -- the end ----------------------------------------------------------------------------------------------

    def quiet(self) -> None:
        """Take nothing more; what is in hand goes on."""
        self._quiet = True
        self._waker.interrupt()

    async def stop(self, grace_seconds: float) -> None:
        """Take nothing more; what is in hand may end within `grace_seconds`, then it is given back."""
        self._stopping.set()
        self._free.set()
        self._waker.interrupt()
        # What a claim on its way brings is in hand, too.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), min(max(grace_seconds, 1.0), _LONGEST_PAUSE_SECONDS))
        tasks = [hand.task for hand in self._hands.values()]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_LONGEST_PAUSE_SECONDS)

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
