"""The asynchronous shell: carries out steps on event loops.

What belongs here: running steps. What does not: any decision; those are in `engine` and what it imports.
Invariant: connections belong to one event loop of one process; another loop, or a fork, starts with none.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lukhas_redis.calls import BESIDE_BYTES, Op, Work
from lukhas_redis.transport.aio_link import Link
from lukhas_redis.transport.aio_links import NodeLinks
from lukhas_redis.transport.conduct import conduct
from lukhas_redis.transport.dialing import Plan, closed_meanwhile
from lukhas_redis.transport.readiness import readiness
from lukhas_redis.transport.steps import Exchange, Node, Once, Outcome, Pause, Round, SetbackError, Step, Steps
from lukhas_redis.transport.targets import plan_for
from lukhas_redis.transport.wire import pack, pack_small
from lukhas_redis.transport.world import Policy, ServerInfo, World

if TYPE_CHECKING:
    from lukhas_redis.settings import Settings

T = TypeVar("T")


class _State:
    """What belongs to one event loop of one process, until the transport is closed there."""

    def __init__(self, loop: asyncio.AbstractEventLoop, plan: Plan, policy: Policy) -> None:
        self.loop = loop
        self.pid = os.getpid()
        self.plan = plan
        self.world = World(policy, plan.routes(policy.check_interval_seconds), clock=loop.time)
        self.links: dict[Node, NodeLinks] = {}
        self.tasks: dict[Hashable, asyncio.Task[None]] = {}
        self.closed = False

    def node_links(self, node: Node) -> NodeLinks:
        links = self.links.get(node)
        if links is None:
            links = self.links[node] = NodeLinks(node, self.plan, self.world, self.loop)
        return links

    def retire_strangers(self) -> None:
        """Let go of servers that the topology no longer names; calls in flight there end as they end."""
        wanted = self.world.routes.nodes()
        for node in [node for node in self.links if node.role == "data" and node not in wanted]:
            self.links.pop(node).retire()

    def abort(self) -> list[asyncio.Future[Any]]:
        """Close every connection and stop looking at servers; the futures are done when that is done."""
        self.closed = True
        ends: list[asyncio.Future[Any]] = [end for links in self.links.values() for end in links.abort()]
        for task in self.tasks.values():
            task.cancel()
        return [*ends, *self.tasks.values()]


class AsyncTransport:
    """Runs operations against a server, a Sentinel group or a cluster; any number of tasks may share it.

    `target` is a URL (see `address`) or a redis-py client (`Redis`, `RedisCluster`, also one made by Sentinel),
    whose address and credentials are used; its own connections are left to it.
    """

    def __init__(self, target: Any, settings: Settings) -> None:
        self._plan = plan_for(target, settings)
        self._policy = Policy.of(settings)
        self._states: dict[tuple[int, int], _State] = {}
        self._last: _State | None = None

    async def run(self, op: Op[T]) -> T:
        """Run an operation to its result. Cancelling leaves open whether it was applied.

        Raises:
            LukhasRedisError: What the operation ended with; `retryable` says whether to try again.
        """
        state = self._state()
        return await self._drive(conduct(op, state.world), state)

    async def ready(self) -> None:
        """Connect to every primary and check that each suits.

        Raises:
            Unavailable: A server could not be reached in time. A retry may help.
            ServerUnsuitable, AccessDenied: A setting or right must be changed first.
        """
        state = self._state()
        await self._drive(readiness(state.world), state)

    @property
    def server(self) -> ServerInfo | None:
        """What the server said it is when it was last checked; None before the first use."""
        return self._last.world.knowledge.server if self._last else None

    async def close(self) -> None:
        """Close all connections of this event loop; calls that run meanwhile fail, the next one opens new ones."""
        self._last = None
        state = self._states.pop((os.getpid(), id(asyncio.get_running_loop())), None)
        ends = state.abort() if state else []
        if ends:
            await asyncio.wait(ends)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _state(self) -> _State:
        loop, pid, last = asyncio.get_running_loop(), os.getpid(), self._last
        if last is not None and last.loop is loop and last.pid == pid:
            return last
        key = (pid, id(loop))
        state = self._states.get(key)
        if state is None or state.loop is not loop:
            # What belongs to a parent process stays where it is: closing it would end the parent's connections.
            state = self._states[key] = _State(loop, self._plan, self._policy)
        self._last = state
        return state

    async def _drive(self, steps: Steps[T], state: _State) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    # The common case needs no coroutine of its own.
                    sent = _sent(step, state) if type(step) is Exchange else None
                    result = await (sent if sent is not None else self._perform(step, state))
                except Exception as error:  # noqa: BLE001 - belongs to who asked for the step, which judges it
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            steps.close()

    async def _perform(self, step: Step, state: _State) -> Any:
        if isinstance(step, Round):
            return await self._round(step.exchanges, state)
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Once):
            return await self._once(step, state)
        if isinstance(step, Work):
            return await _work(step, state)
        return await self._exchange(step, state)

    async def _exchange(self, exchange: Exchange, state: _State) -> Outcome:
        if state.closed:
            return closed_meanwhile()
        links = state.links.get(exchange.node) or state.node_links(exchange.node)
        if exchange.own_connection:
            return await self._alone(exchange, links, state)
        link = links.ready() or await links.share(exchange.deadline)
        if not isinstance(link, Link):
            return link
        return await _submit(exchange, link, state)

    async def _alone(self, exchange: Exchange, links: NodeLinks, state: _State) -> Outcome:
        link = await links.borrow(exchange.deadline)
        if not isinstance(link, Link):
            return link
        try:
            return await _submit(exchange, link, state)
        finally:
            links.give_back(link)

    async def _round(self, exchanges: tuple[Exchange, ...], state: _State) -> list[Outcome]:
        """All at once: those that share a connection are written together."""
        return await asyncio.gather(*[self._begin(exchange, state) for exchange in exchanges])

    def _begin(self, exchange: Exchange, state: _State) -> asyncio.Future[Outcome]:
        return _sent(exchange, state) or state.loop.create_task(self._exchange(exchange, state))

    async def _once(self, step: Once, state: _State) -> None:
        task = state.tasks.get(step.key)
        if task is None:
            if not step.needed():
                return
            task = state.tasks[step.key] = state.loop.create_task(self._drive(step.steps(), state))
            task.add_done_callback(lambda done: _finished(step.key, done, state))
        # `wait` leaves the task alone: whoever is cancelled must not take away what others wait for.
        done, _ = await asyncio.wait([task], timeout=max(0.0, step.deadline - state.loop.time()))
        if not done or task.cancelled():
            raise SetbackError("another task is still looking at the servers")
        task.result()


async def _work(work: Work, state: _State) -> Any:
    """A large computation leaves the loop to others meanwhile; a small one costs less than a thread."""
    return work.run() if work.size < BESIDE_BYTES else await state.loop.run_in_executor(None, work.run)


def _sent(exchange: Exchange, state: _State) -> asyncio.Future[Outcome] | None:
    """Send it at once on the shared connection, where that is open and has room."""
    links = None if exchange.own_connection or state.closed else state.links.get(exchange.node)
    link = links.ready() if links else None
    if link is None:
        return None
    commands = exchange.commands
    if len(commands) > 1:
        return _submit(exchange, link, state)
    # What is large asks for a connection of its own.
    return link.submit([pack_small(commands[0])], 1, state.loop.time(), exchange.deadline)


def _submit(exchange: Exchange, link: Link, state: _State) -> asyncio.Future[Outcome]:
    commands = exchange.commands
    return link.submit(pack(commands), len(commands), state.loop.time(), exchange.deadline)


def _finished(key: Hashable, task: asyncio.Task[None], state: _State) -> None:
    del state.tasks[key]
    if not task.cancelled():
        task.exception()
    if key == "routes":
        state.retire_strangers()
