"""What a worker has in hand of one subscription on one shard: handled, finished, given back, and kept meanwhile.

What belongs here: the life of a delivery from its claim to its end. What does not: claiming (`runner`), when a commit
is sent again (`committing`), what an error means (`handlers`).
Invariant: whatever is in hand shows a sign of life three times per hold.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus.acks import Acks
from lukhas_redis.bus.committing import NO_ROOM, Commits
from lukhas_redis.bus.handlers import Failure, backoff_ms, judge, refused
from lukhas_redis.bus.subscriptions import Subscription
from lukhas_redis.bus.transactions import Transaction
from lukhas_redis.bus_models import BusEvent, Unreadable
from lukhas_redis.errors import DeliveryLost, LukhasRedisError
from lukhas_redis.ops import bus as ops

_LOG = logging.getLogger("lukhas_redis.bus")
_LONGEST_END_SECONDS = 5.0


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


class Hands:
    """The deliveries a subscription has in hand. `stopping` is set when the worker is to end."""

    def __init__(
        self, store: AsyncContextStore, subscription: Subscription, consumer: str, stopping: asyncio.Event
    ) -> None:
        self._store = store
        self._sub = subscription
        self._consumer = consumer
        self._stopping = stopping
        self._held: dict[str, _InHand] = {}
        self._slots = asyncio.Semaphore(subscription.concurrency)
        self._free = asyncio.Event()
        self._acks = Acks(store, subscription.group, consumer)
        self._commits = Commits(store, subscription.group, consumer, patience_seconds=subscription.hold_seconds)
        self.progress = Progress()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def room(self) -> int:
        """For how many more there is room."""
        return self._sub.concurrency + self._sub.prefetch - len(self._held)

    async def until_room(self) -> None:
        """Return when one of them has ended, or `interrupt` was called."""
        self._free.clear()
        await self._free.wait()
        # What ends in the same turn of the loop makes room together: one claim for all of it.
        await asyncio.sleep(0)

    def interrupt(self) -> None:
        """Have whoever waits for room look up now."""
        self._free.set()

    async def end(self, grace_seconds: float) -> None:
        """Let them end within `grace_seconds`; what has not is cancelled and given back."""
        tasks = [hand.task for hand in self._held.values()]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=grace_seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_LONGEST_END_SECONDS)

    def take(self, events: Iterable[BusEvent], *, dry: bool = False) -> int:
        """Have events handled that are not in hand already; how many these are. `dry`: they were only peeked at."""
        took = 0
        for event in events:
            name = f"{event.rank}/{event.stream_id}"
            known = self._held.get(name)
            if known is not None and not known.returned:
                if known.event.deliveries >= event.deliveries:
                    # After a lost reply the books name what is in hand as well.
                    continue
                # The hold of the earlier delivery lapsed unnoticed, so nothing of it can be committed.
                self._lost(known)
            hand = self._held[name] = _InHand(event)
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
            if self._held.get(name) is hand:
                del self._held[name]
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

    async def bury(self, one: Unreadable) -> None:
        """Make an event that nobody can read a dead letter."""
        await self._give_back(one, Failure("payload", one.error, final=True))

    async def keep(self) -> None:
        """Show for ever that the worker lives; cancel the handlers of what was taken over all the same."""
        hold_ms = int(self._sub.hold_seconds * 1000)
        while True:
            await asyncio.sleep(self._sub.hold_seconds / 3)
            held = {name: hand for name, hand in self._held.items() if hand.event.deliveries}
            if not held:
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
