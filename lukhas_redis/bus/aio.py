"""The bus for event loops: emitting, and workers that handle what is emitted.

What belongs here: a table of contents, and starting and stopping a worker. What does not: handling (`hands`).
Invariant: all of it works through one store, whose connections and near cache are used.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import random
import re
import socket
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields
from datetime import timedelta
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus.handlers import Handler, signature_of
from lukhas_redis.bus.hands import Progress
from lukhas_redis.bus.runner import Runner
from lukhas_redis.bus.subscriptions import Subscription
from lukhas_redis.bus.waker import Waker
from lukhas_redis.calls import Op
from lukhas_redis.errors import InvalidArgument, LukhasRedisError
from lukhas_redis.ops import bus as ops
from lukhas_redis.ops.bus.common import group_name, known
from lukhas_redis.ops.bus.patterns import lua_patterns
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings
from lukhas_redis.shell import dress

P = ParamSpec("P")
T = TypeVar("T")
_LOG = logging.getLogger("lukhas_redis.bus")
_TRIM_SECONDS = 30.0


def _bus(
    op: Callable[Concatenate[Space, P], Op[T]],
) -> Callable[Concatenate[AsyncContextBus, P], Coroutine[Any, Any, T]]:
    name = op.__name__

    async def method(self: AsyncContextBus, /, *args: P.args, **kwargs: P.kwargs) -> T:
        store = self.store
        return await store.run(op(store.space, *args, **kwargs), name, dry_run=bool(kwargs.get("dry_run")))

    dress(method, op)
    return method


class AsyncContextBus:
    """Events of one tenant, shared with every other worker; asyncio.

    Give it an `AsyncContextStore`, or make one with `connect`.
    """

    def __init__(self, store: AsyncContextStore) -> None:
        self.store = store
        self._subscriptions: list[Subscription] = []
        self._runners: list[Runner] = []
        self._owns_store = False
        self._stopping: asyncio.Event | None = None
        self._grace_seconds = 10.0
        self._quiet = False

    @classmethod
    def connect(cls, url: str | None = None, *, tenant: str | None = None, settings: Settings | None = None) -> Self:
        """A bus with a store of its own, see `AsyncContextStore.connect`.

        Raises:
            InvalidArgument, InvalidId: The URL is no text or the tenant no name. A retry cannot help.
        """
        bus = cls(AsyncContextStore.connect(url, tenant=tenant, settings=settings))
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

    def subscribe(
        self,
        pattern: str | Sequence[str],
        handler: Handler,
        *,
        group: str | None = None,
        concurrency: int = 8,
        prefetch: int = 0,
        max_deliveries: int | None = None,
        start: str = "all",
        timeout: float | timedelta | None = None,
        hold_seconds: float | None = None,
        first_backoff_seconds: float | None = None,
        longest_backoff_seconds: float | None = None,
    ) -> Subscription:
        """Have `handler` called for every event whose name fits, by one worker of the group, when `run` runs.

        `pattern`: of event names, or several; `*` stands for anything. `handler`: an async function of the event
        (`BusEvent`, or a pydantic model that its payload must fit) and, if it takes one, a `Transaction`, whose changes
        are committed with the event's end: once, whatever happens to the worker. `group`: the consumer group (default:
        the handler's name); all workers of a group must subscribe the same patterns, because what fits none is
        finished. `concurrency`: handlers at once. `prefetch`: events taken beyond that; they cannot be overtaken by
        more urgent ones. `max_deliveries`: after so many an event is a dead letter. `start`: where a new group begins,
        `all` or `new`. `timeout` (seconds): of one call of the handler; default none. `hold_seconds`: how long a
        worker that gives no sign of life keeps an event; it gives three signs in that time.

        Raises:
            InvalidArgument, InvalidId: One of them is malformed, or the group is subscribed already. No retry.
        """
        signature, settings = signature_of(handler), self.store.settings
        name = group_name(group if group is not None else re.sub(r"[^A-Za-z0-9_.-]", ".", signature.name)[-64:])
        if any(one.group == name for one in self._subscriptions):
            raise InvalidArgument(f"group {name} is subscribed already: one handler for each group")
        if start not in ("all", "new"):
            raise InvalidArgument(f"start {start!r:.40} is neither 'all' nor 'new'")
        subscription = Subscription(
            name,
            lua_patterns(pattern),
            (pattern,) if isinstance(pattern, str) else tuple(pattern),
            signature,
            _whole(concurrency, "concurrency", 1, 10_000),
            _whole(prefetch, "prefetch", 0, 10_000),
            _whole(
                settings.bus_max_deliveries if max_deliveries is None else max_deliveries, "max_deliveries", 1, 10**6
            ),
            start,
            _seconds(timeout, "timeout"),
            _seconds(hold_seconds, "hold_seconds") or settings.bus_hold_seconds,
            _seconds(first_backoff_seconds, "first_backoff_seconds") or settings.bus_first_backoff_seconds,
            _seconds(longest_backoff_seconds, "longest_backoff_seconds") or settings.bus_longest_backoff_seconds,
        )
        self._subscriptions.append(subscription)
        return subscription

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """What this bus handles when it runs."""
        return tuple(self._subscriptions)

    @property
    def progress(self) -> Progress:
        """What its handlers have done since `run` began."""
        total = Progress()
        for runner in self._runners:
            for one in fields(Progress):
                setattr(total, one.name, getattr(total, one.name) + getattr(runner.progress, one.name))
        return total

    async def run(self, *, dry_run: bool = False, grace_seconds: float = 10.0) -> None:
        """Handle events until `stop` is called or this is cancelled.

        `dry_run`: look at events and call the handlers, but join no group, take nothing and commit nothing; so it is
        for a tenant in dry run, too. `grace_seconds`: how long handlers may go on after `stop`; what is not done then
        is given back.

        Raises:
            InvalidArgument: Nothing is subscribed, or it runs already.
            AccessDenied, ServerUnsuitable: A right or setting must be changed first.
        """
        if not self._subscriptions or self._stopping is not None:
            raise InvalidArgument("nothing is subscribed" if not self._subscriptions else "the bus runs already")
        self._stopping, self._grace_seconds = asyncio.Event(), grace_seconds
        self._runners = []
        consumer, waiting = consumer_name(), self._waiting_name()
        wakers: list[Waker] = []
        try:
            await self._known()
            for shard in range(self.store.space.shard_count):
                waker = Waker(self.store, waiting, consumer, shard)
                wakers.append(waker)
                self._runners += [
                    Runner(self.store, one, consumer, waiting, waker, shard, dry_run=dry_run)
                    for one in self._subscriptions
                ]
            if self._quiet:
                self.quiet()
            await self._work(dry_run=dry_run)
        finally:
            for waker in wakers:
                await waker.close()
            self._stopping, self._quiet = None, False

    async def _known(self) -> None:
        """The number of shards decides how many runners there are."""
        while self._stopping is not None and not self._stopping.is_set():
            try:
                await self.store.run(known(self.store.space), "discover")
            except LukhasRedisError as error:
                if not error.retryable:
                    raise
                _LOG.warning("%s", error)
                await asyncio.sleep(0.5)
            else:
                return

    async def _work(self, *, dry_run: bool) -> None:
        stopping = self._stopping
        if stopping is None:
            return
        tasks = [asyncio.create_task(runner.run()) for runner in self._runners]
        if not dry_run:
            tasks.append(asyncio.create_task(self._upkeep()))
        waiting = asyncio.create_task(stopping.wait())
        try:
            done, _ = await asyncio.wait([*tasks, waiting], return_when=asyncio.FIRST_COMPLETED)
            grace = self._grace_seconds if waiting in done else 0.0
            await asyncio.gather(*[runner.stop(grace) for runner in self._runners])
            for task in done - {waiting}:
                task.result()
        except asyncio.CancelledError:
            await asyncio.shield(asyncio.gather(*[runner.stop(0.0) for runner in self._runners]))
            raise
        finally:
            waiting.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*[runner.leave() for runner in self._runners], return_exceptions=True)

    def stop(self) -> None:
        """Have `run` take nothing more and return when its handlers are done (or the grace is over)."""
        if self._stopping is not None:
            self._stopping.set()

    def quiet(self) -> None:
        """Have `run` take nothing more, finish what is in hand, and then do nothing until `stop`."""
        self._quiet = True
        for runner in self._runners:
            runner.quiet()

    @property
    def in_hand(self) -> int:
        """How many events its handlers have, or are about to get."""
        return sum(runner.in_hand for runner in self._runners)

    async def _upkeep(self) -> None:
        """Forget what every group has finished; by chance not all workers at once."""
        while True:
            await asyncio.sleep(_TRIM_SECONDS * (0.5 + random.random()))  # noqa: S311 - spreads load
            try:
                await self.store.run(ops.trim(self.store.space), "trim")
            except LukhasRedisError as error:
                _LOG.info("trim: %s", error)

    def _waiting_name(self) -> str:
        """Workers that handle the same groups wait together: of them, each sign wakes one."""
        everything = "\n".join(sorted(one.group for one in self._subscriptions))
        return "@" + hashlib.sha256(everything.encode()).hexdigest()[:16]

    async def close(self) -> None:
        """Close the store's connections, when the bus made it."""
        if self._owns_store:
            await self.store.close()

    async def __aenter__(self) -> Self:
        """Return the bus itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close."""
        await self.close()


def consumer_name() -> str:
    """A worker's name: host, process and a random part; workers that ended are taken off the books."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname())[:32] or "host"
    return f"{host}.{os.getpid()}.{os.urandom(4).hex()}"


def _whole(value: object, what: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise InvalidArgument(f"{what} {value!r:.40} is not a whole number from {low} to {high}")
    return value


def _seconds(value: object, what: str) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 86_400:
        raise InvalidArgument(f"{what} {value!r:.40} is not a time over 0 and up to a day")
    return float(seconds)
