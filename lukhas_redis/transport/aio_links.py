"""The asynchronous shell's connections to one server: one that all share, others lent to one caller at a time.

What belongs here: opening, choosing, lending and closing connections. What does not: what is sent on them.
Invariant: at most `max_connections` are open, one of them left for sharing; who waits is served in order. One shared
connection is enough: a second one made nothing faster, with light scripts or heavy ones, 8, 32 or 128 tasks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.transport.aio_link import Link
from lukhas_redis.transport.batching import BATCH_BYTES, BATCH_COMMANDS
from lukhas_redis.transport.dialing import Plan, closed_meanwhile, unconnected
from lukhas_redis.transport.inspection import inspect
from lukhas_redis.transport.steps import Exchange, Node, NotSent, SetbackError
from lukhas_redis.transport.wire import pack
from lukhas_redis.transport.world import World

_FULL = NotSent("every connection is in use")


class NodeLinks:
    """The connections to one server."""

    def __init__(self, node: Node, plan: Plan, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self.node = node
        self._plan = plan
        self._world = world
        self._loop = loop
        self._shared: Link | None = None
        self._spare: list[Link] = []
        self._lent: set[Link] = set()
        self._opening: asyncio.Task[Link | NotSent] | None = None
        self._dialing = 0
        self._room: deque[asyncio.Future[bool]] = deque()
        self._turns: deque[asyncio.Future[bool]] = deque()
        self._retired = False
        self._most_lent = plan.max_connections - 1

    # -- shared -----------------------------------------------------------------------------------------------

    def ready(self) -> Link | None:
        """The shared connection, when it can take another unit now."""
        link = self._shared
        if link is None or self._room or link.commands >= BATCH_COMMANDS or link.size >= BATCH_BYTES:
            return None
        usable = link.alive() if not link.commands else not link.closed
        return link if usable else None

    async def share(self, deadline: float) -> Link | NotSent:
        """The shared connection, opened, or waited for until it has room."""
        while True:
            link = self._shared
            if link is None or link.closed:
                return await self._opened_by(deadline)
            if link.commands < BATCH_COMMANDS and link.size < BATCH_BYTES:
                return link
            if not await self._queue(self._room, deadline):
                return _FULL

    async def _opened_by(self, deadline: float) -> Link | NotSent:
        if self._opening is None:
            self._opening = self._loop.create_task(self._open_shared())
        opening = self._opening
        # `wait` leaves the task alone: others may wait for the same connection.
        await asyncio.wait([opening], timeout=max(0.0, deadline - self._loop.time()))
        if opening.cancelled():
            return closed_meanwhile()
        return opening.result() if opening.done() else NotSent(f"no connection to {self.node} in time")

    async def _open_shared(self) -> Link | NotSent:
        try:
            link = await self._dial(self._loop.time() + self._plan.connect_seconds + self._plan.reply_seconds)
            if isinstance(link, Link):
                link.on_room = self._admit
                self._shared = link
            return link
        finally:
            self._opening = None

    def _admit(self) -> None:
        """Let those who wait for room look again, in their order."""
        while self._room:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(True)

    # -- lent -------------------------------------------------------------------------------------------------

    async def borrow(self, deadline: float) -> Link | NotSent:
        """A connection for one caller alone; must be given back. Where only one is allowed, it is shared."""
        if not self._most_lent:
            return await self.share(deadline)
        while True:
            link = self._idle_spare()
            if link is None and len(self._lent) + self._dialing < self._most_lent:
                self._dialing += 1
                try:
                    opened = await self._dial(deadline)
                finally:
                    self._dialing -= 1
                if isinstance(opened, NotSent):
                    self._next_turn()
                    return opened
                link = opened
            if link is not None:
                self._lent.add(link)
                return link
            if not await self._queue(self._turns, deadline):
                return _FULL

    def _idle_spare(self) -> Link | None:
        while self._spare:
            link = self._spare.pop()
            if link.alive():
                return link
        return None

    def give_back(self, link: Link) -> None:
        """End the loan; a connection that still owes replies is closed."""
        if link not in self._lent:
            return
        self._lent.discard(link)
        if link.commands or self._retired:
            link.abort("its caller went away")
        elif not link.closed:
            self._spare.append(link)
        self._next_turn()

    def _next_turn(self) -> None:
        while self._turns:
            waiter = self._turns.popleft()
            if not waiter.done():
                waiter.set_result(True)
                return

    # -- both -------------------------------------------------------------------------------------------------

    async def _queue(self, queue: deque[asyncio.Future[bool]], deadline: float) -> bool:
        """Wait in a queue; False when the deadline came first."""
        waiter: asyncio.Future[bool] = self._loop.create_future()
        queue.append(waiter)
        timer = self._loop.call_at(deadline, _expire, waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.result():
                # Woken and cancelled at once: the turn passes on.
                self._next_turn()
            raise
        finally:
            timer.cancel()

    async def _dial(self, deadline: float) -> Link | NotSent:
        connection = self._made()
        try:
            async with asyncio.timeout_at(min(deadline, self._loop.time() + self._plan.connect_seconds)):
                await connection.connect()
                if await connection.can_read():
                    raise redis.ConnectionError("the server sent something unasked")
        except (redis.RedisError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            await connection.disconnect(nowait=True)
            return unconnected(self.node, error)
        except asyncio.CancelledError:
            await connection.disconnect(nowait=True)
            raise
        link = Link(connection, self._loop, self._plan.reply_seconds)
        if self.node.role != "data":
            return link
        return await self._welcome(link, deadline)

    def _made(self) -> Any:
        kind: Any = SSLConnection if self._plan.secure(self.node) else Connection
        if self.node.path:
            kind = UnixDomainSocketConnection
        return kind(retry=Retry(NoBackoff(), 0), **self._plan.arguments(self.node, self._plan.connect_seconds))

    async def _welcome(self, link: Link, deadline: float) -> Link | NotSent:
        """Check the server on this very connection before anything else is sent on it."""
        self._world.knowledge.forget(self.node)
        steps = inspect(self.node, self._world, deadline)
        try:
            step = next(steps)
            while isinstance(step, Exchange):
                commands = step.commands
                outcome = await link.submit(pack(commands), len(commands), self._loop.time(), step.deadline)
                step = steps.send(outcome)
        except StopIteration:
            if not self._retired:
                return link
            link.abort("the server is no longer used")
            return NotSent(f"{self.node} is no longer used")
        except (LukhasRedisError, SetbackError) as error:
            link.abort("the server does not suit")
            return NotSent(str(error), error=error if isinstance(error, LukhasRedisError) else None)
        except asyncio.CancelledError:
            link.abort("given up while it was opened")
            raise
        return link

    def retire(self) -> None:
        """Close what is idle now and everything else when its last reply has come."""
        self._retired = True
        for link in self._links():
            link.close_when_idle()
        self._spare.clear()

    def abort(self) -> list[asyncio.Future[Any]]:
        """Close everything now; the futures are done when it is closed."""
        self._retired = True
        ends: list[asyncio.Future[Any]] = []
        if self._opening is not None:
            self._opening.cancel()
            ends.append(self._opening)
        for link in (*self._links(), *self._lent):
            link.abort("the transport was closed")
            ends.append(link.gone)
        return ends

    def _links(self) -> list[Link]:
        return [*self._spare, *([self._shared] if self._shared else [])]


def _expire(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
