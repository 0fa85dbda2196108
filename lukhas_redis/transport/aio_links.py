"""The asynchronous shell's connections to one server: few that all share, others lent to one caller at a time.

What belongs here: opening, choosing, lending and closing connections. What does not: what is sent on them.
Invariant: at most `max_connections` are open, one of them always left for sharing; who waits is served in order.
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
from lukhas_redis.transport.dialing import Plan, unconnected
from lukhas_redis.transport.inspection import inspect
from lukhas_redis.transport.steps import Exchange, Node, NotSent, SetbackError
from lukhas_redis.transport.wire import pack
from lukhas_redis.transport.world import World

# A second shared connection lets the server work while replies of the first are read.
SHARED_LINKS = 2
# It is opened when so many commands are in flight on the first.
_CROWD = 8
_FULL = NotSent("every connection is in use")


class NodeLinks:
    """The connections to one server."""

    def __init__(self, node: Node, plan: Plan, world: World, loop: asyncio.AbstractEventLoop) -> None:
        self.node = node
        self._plan = plan
        self._world = world
        self._loop = loop
        self._shared: list[Link] = []
        self._spare: list[Link] = []
        self._lent: set[Link] = set()
        self._opening: asyncio.Task[Link | NotSent] | None = None
        self._dialing = 0
        self._room: deque[asyncio.Future[bool]] = deque()
        self._turns: deque[asyncio.Future[bool]] = deque()
        self._retired = False
        self._most_shared = min(SHARED_LINKS, plan.max_connections)
        self._most_lent = max(0, plan.max_connections - self._most_shared)

    # -- shared -----------------------------------------------------------------------------------------------

    def ready(self) -> Link | None:
        """A shared connection that can take another unit now, or None."""
        if self._room:
            return None
        best: Link | None = None
        for link in self._shared:
            if not link.commands and link.alive():
                return link
            if link.closed or link.commands >= BATCH_COMMANDS or link.size >= BATCH_BYTES:
                continue
            if best is None or link.commands < best.commands:
                best = link
        if best is not None and best.commands >= _CROWD and len(self._shared) < self._most_shared:
            _ = self._open_shared()
        return best

    async def share(self, deadline: float) -> Link | NotSent:
        """A shared connection, opened or waited for when there is none with room."""
        while True:
            self._shared = [link for link in self._shared if not link.closed and (link.commands or link.alive())]
            if not self._shared:
                return await self._opened_by(deadline)
            link = self._vacancy()
            if link is not None:
                return link
            if not await self._queue(self._room, deadline):
                return _FULL

    async def _opened_by(self, deadline: float) -> Link | NotSent:
        opening = self._open_shared()
        # `wait` leaves the task alone: others may wait for the same connection.
        await asyncio.wait([opening], timeout=max(0.0, deadline - self._loop.time()))
        return opening.result() if opening.done() else NotSent(f"no connection to {self.node} in time")

    def _vacancy(self) -> Link | None:
        best = min(self._shared, key=lambda link: link.commands)
        return best if best.commands < BATCH_COMMANDS and best.size < BATCH_BYTES else None

    def _open_shared(self) -> asyncio.Task[Link | NotSent]:
        if self._opening is None:
            self._opening = self._loop.create_task(self._add_shared())
            self._opening.add_done_callback(self._opened)
        return self._opening

    async def _add_shared(self) -> Link | NotSent:
        link = await self._dial(self._loop.time() + self._plan.connect_seconds + self._plan.reply_seconds)
        if isinstance(link, Link):
            link.on_room = self._admit
            self._shared.append(link)
        return link

    def _opened(self, task: asyncio.Task[Link | NotSent]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()
        self._admit()

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
        for link in (*self._spare, *self._shared):
            link.close_when_idle()
        self._spare.clear()

    def abort(self) -> None:
        """Close everything now."""
        self._retired = True
        for link in (*self._spare, *self._shared, *self._lent):
            link.abort("the transport was closed")
        self._spare.clear()
        self._shared.clear()


def _expire(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
