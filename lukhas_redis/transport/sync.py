"""The synchronous shell: carries out steps with blocking sockets, for any number of threads.

What belongs here: running steps. What does not: any decision; those are in `engine` and what it imports.
Invariant: a step's result depends on the servers alone; a process that was forked starts with no connection.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Hashable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lukhas_redis.calls import Op, Work
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.transport.batching import batches
from lukhas_redis.transport.conduct import conduct
from lukhas_redis.transport.dialing import Plan, closed_meanwhile
from lukhas_redis.transport.inspection import inspect
from lukhas_redis.transport.readiness import readiness
from lukhas_redis.transport.steps import Exchange, Node, NotSent, Once, Outcome, Pause, Round, SetbackError, Step, Steps
from lukhas_redis.transport.sync_links import Link, NodeLinks
from lukhas_redis.transport.targets import plan_for
from lukhas_redis.transport.wire import pack
from lukhas_redis.transport.world import Policy, ServerInfo, World

if TYPE_CHECKING:
    from lukhas_redis.settings import Settings

T = TypeVar("T")


class _State:
    """What belongs to one process, until the transport is closed there."""

    def __init__(self, plan: Plan, policy: Policy) -> None:
        self.world = World(policy, plan.routes(policy.check_interval_seconds))
        self.links: dict[Node, NodeLinks] = {}
        self.locks: dict[Hashable, threading.Lock] = {}
        self.closed = False


class SyncTransport:
    """Runs operations against a server, a Sentinel group or a cluster; safe to share between threads.

    `target` is a URL (see `address`) or a redis-py client (`Redis`, `RedisCluster`, also one made by Sentinel),
    whose address and credentials are used; its own connections are left to it.
    """

    def __init__(self, target: Any, settings: Settings) -> None:
        self._plan = plan_for(target, settings)
        self._policy = Policy.of(settings)
        self._states: dict[int, _State] = {}

    def run(self, op: Op[T]) -> T:
        """Run an operation to its result.

        Raises:
            LukhasRedisError: What the operation ended with; `retryable` says whether to try again.
        """
        state = self._state()
        return self._drive(conduct(op, state.world), state)

    def ready(self) -> None:
        """Connect to every primary and check that each suits.

        Raises:
            Unavailable: A server could not be reached in time. A retry may help.
            ServerUnsuitable, AccessDenied: A setting or right must be changed first.
        """
        state = self._state()
        self._drive(readiness(state.world), state)

    @property
    def server(self) -> ServerInfo | None:
        """What the server said it is when it was last checked; None before the first use."""
        return self._state().world.knowledge.server

    def close(self) -> None:
        """Close all connections of this process; calls that run meanwhile fail, the next one opens new ones."""
        state = self._states.pop(os.getpid(), None)
        if state is not None:
            state.closed = True
            for links in list(state.links.values()):
                links.retire()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _state(self) -> _State:
        pid = os.getpid()
        state = self._states.get(pid)
        # A forked child has its own number, so it never touches sockets or locks of its parent.
        return state if state is not None else self._states.setdefault(pid, _State(self._plan, self._policy))

    def _drive(self, steps: Steps[T], state: _State) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    result = self._perform(step, state)
                except Exception as error:  # noqa: BLE001 - belongs to who asked for the step, which judges it
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            value: T = done.value
            return value
        finally:
            steps.close()

    def _perform(self, step: Step, state: _State) -> Any:
        if isinstance(step, Exchange):
            return self._exchange(step, state)
        if isinstance(step, Round):
            return self._round(step.exchanges, state)
        if isinstance(step, Work):
            return step.run()
        if isinstance(step, Pause):
            return time.sleep(step.seconds)
        return self._once(step, state)

    def _once(self, step: Once, state: _State) -> None:
        lock = state.locks.setdefault(step.key, threading.Lock())
        if not lock.acquire(timeout=max(0.0, step.deadline - time.monotonic())):
            raise SetbackError("another thread is still looking at the servers")
        try:
            if step.needed():
                self._drive(step.steps(), state)
        finally:
            lock.release()
        if step.key == "routes":
            _retire_strangers(state)

    def _exchange(self, exchange: Exchange, state: _State) -> Outcome:
        pieces = pack(exchange.commands)
        return self._send(exchange.node, pieces, len(exchange.commands), exchange.deadline, state)

    def _round(self, exchanges: tuple[Exchange, ...], state: _State) -> list[Outcome]:
        """One pipeline per node, or several when one would be too long; each exchange is answered on its own."""
        outcomes: list[Any] = [None] * len(exchanges)
        for batch in batches(exchanges):
            outcome = self._send(batch.node, batch.pieces, sum(batch.counts), batch.deadline, state)
            for place, part in batch.share(outcome):
                outcomes[place] = part
        return outcomes

    def _send(self, node: Node, pieces: list[bytes], count: int, deadline: float, state: _State) -> Outcome:
        if state.closed:
            return closed_meanwhile()
        links = state.links.get(node)
        if links is None:
            links = state.links.setdefault(node, NodeLinks(node, self._plan))
        link = links.take() or links.reserve(deadline) or self._open(links, state, deadline)
        if isinstance(link, NotSent):
            return link
        kept = False
        try:
            outcome = link.exchange(pieces, count, deadline - time.monotonic())
            kept = isinstance(outcome, list)
            return outcome
        finally:
            # Anything but a full set of replies, an interrupt included, leaves replies behind.
            (links.give_back if kept else links.discard)(link)

    def _open(self, links: NodeLinks, state: _State, deadline: float) -> Link | NotSent:
        link: Link | NotSent | None = None
        suits = False
        try:
            link = links.dial(deadline)
            if isinstance(link, Link) and links.node.role == "data":
                _inspect(link, links.node, state.world, deadline)
            suits = isinstance(link, Link)
            return link
        except (LukhasRedisError, SetbackError) as error:
            return NotSent(str(error), error=error if isinstance(error, LukhasRedisError) else None)
        finally:
            if not suits:
                links.forfeit()
                if isinstance(link, Link):
                    link.close()


def _inspect(link: Link, node: Node, world: World, deadline: float) -> None:
    """Check the server on this very connection before anything else is sent on it."""
    world.knowledge.forget(node)
    steps = inspect(node, world, deadline)
    try:
        step = next(steps)
        while isinstance(step, Exchange):
            outcome = link.exchange(pack(step.commands), len(step.commands), deadline - time.monotonic())
            step = steps.send(outcome)
    except StopIteration:
        return


def _retire_strangers(state: _State) -> None:
    """Let go of servers that the topology no longer names; calls in flight there end as they end."""
    wanted = state.world.routes.nodes()
    # Other threads add servers, and retire the same ones, meanwhile.
    for node in [node for node in list(state.links) if node.role == "data" and node not in wanted]:
        links = state.links.pop(node, None)
        if links is not None:
            links.retire()
