"""Drives an operation: each request it yields becomes attempts, several at once run in lockstep.

What belongs here: between an `Op` and the steps a shell carries out. What does not: what one attempt does (`engine`).
Invariant: what an operation is sent or thrown depends on the replies alone, never on which shell runs it.
"""

from __future__ import annotations

from typing import Any, TypeVar

from lukhas_redis.calls import Op, Request, Work
from lukhas_redis.transport.engine import NOT_PLAIN, attempt, common, further, plain_answer
from lukhas_redis.transport.steps import Exchange, Once, Pause, Round, Step, Steps
from lukhas_redis.transport.units import unit_of
from lukhas_redis.transport.world import World

T = TypeVar("T")


def conduct(op: Op[T], world: World) -> Steps[T]:
    """Run an operation to its result; errors of a single request are thrown into it."""
    try:
        wanted = next(op)
        while True:
            if type(wanted) is tuple:
                wanted = op.send((yield from lockstep(wanted, world)))
                continue
            try:
                # As in `answered`, without a generator more for every call.
                if type(wanted) is Work:
                    reply = yield wanted
                else:
                    unit = unit_of(wanted, world.policy)  # type: ignore[arg-type]
                    exchange = common(unit, world)
                    outcome = (yield exchange) if exchange is not None else None
                    reply = plain_answer(unit, outcome)
                    if reply is NOT_PLAIN:
                        reply = yield from further(unit, world, exchange, outcome)
            except Exception as error:  # noqa: BLE001 - the operation judges what its request met
                wanted = op.throw(error)
            else:
                wanted = op.send(reply)
    except StopIteration as done:
        result: T = done.value
        return result
    finally:
        op.close()


def answered(request: Request, world: World) -> Steps[Any]:
    """Carry out one request; a computation is a step of its own, everything else goes to a server."""
    return (yield request) if isinstance(request, Work) else (yield from attempt(request, world))


def lockstep(requests: tuple[Request, ...], world: World) -> Steps[list[Any]]:
    """Run requests side by side; a reply or an error for each, in their order.

    All that are about to send do so in one `Round`; those that pause do so meanwhile.
    """
    return (yield from _Lockstep(requests, world).run())


class _Lockstep:
    def __init__(self, requests: tuple[Request, ...], world: World) -> None:
        self.world = world
        self.results: list[Any] = [None] * len(requests)
        self.running: dict[int, Steps[Any]] = {}
        self.steps: dict[int, Step] = {}
        self.awake_at: dict[int, float] = {}
        for place, request in enumerate(requests):
            self.running[place] = answered(request, world)
            self._advance(place, None)

    def run(self) -> Steps[list[Any]]:
        try:
            while self.steps:
                while any(isinstance(step, Once | Work) for step in self.steps.values()):
                    yield from self._prepare()
                sending = {p: s for p, s in self.steps.items() if isinstance(s, Exchange)}
                if sending:
                    outcomes = yield Round(tuple(sending.values()))
                    for place, outcome in zip(sending, outcomes, strict=True):
                        self._advance(place, outcome)
                elif self.steps:
                    yield Pause(max(0.0, min(self.awake_at.values()) - self.world.clock()))
                self._wake()
        finally:
            for steps in self.running.values():
                steps.close()
        return self.results

    def _prepare(self) -> Steps[None]:
        """Computations, and whatever is done once for many, come first; who else waits for the same finds it done."""
        for place, step in list(self.steps.items()):
            if isinstance(step, Once) and not step.needed():
                self._advance(place, None)
            elif isinstance(step, Once | Work):
                try:
                    result = yield step
                except Exception as error:  # noqa: BLE001 - belongs to the attempt that asked, which judges it
                    self._throw(place, error)
                else:
                    self._advance(place, result)

    def _wake(self) -> None:
        now = self.world.clock()
        for place in [place for place, at in self.awake_at.items() if at <= now]:
            del self.awake_at[place]
            self._advance(place, None)

    def _throw(self, place: int, error: Exception) -> None:
        self._note(place, lambda: self.running[place].throw(error))

    def _advance(self, place: int, outcome: Any) -> None:
        self._note(place, lambda: self.running[place].send(outcome))

    def _note(self, place: int, move: Any) -> None:
        """Record the next step of an attempt, or its end."""
        self.steps.pop(place, None)
        try:
            step = move()
        except StopIteration as done:
            self.results[place] = done.value
        except Exception as error:  # noqa: BLE001 - stays at its place; the operation judges it
            self.results[place] = error
        else:
            self.steps[place] = step
            if isinstance(step, Pause):
                self.awake_at[place] = self.world.clock() + step.seconds
