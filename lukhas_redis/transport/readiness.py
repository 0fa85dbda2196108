"""What `ready()` does: find the servers and check each, once, with the retries of any call.

What belongs here: the steps of `ready()`. What does not: what makes a server suitable (`inspection`).
Invariant: returns only when every primary that is known answered and suits.
"""

from __future__ import annotations

from functools import partial

from lukhas_redis.errors import Unavailable
from lukhas_redis.transport.inspection import inspect
from lukhas_redis.transport.steps import Once, Pause, SetbackError, Steps
from lukhas_redis.transport.world import World

_PAUSE_SECONDS = 0.05


def readiness(world: World) -> Steps[None]:
    """Connect to every primary and check it.

    Raises:
        Unavailable: The deadline of a call passed. A retry may help.
        ServerUnsuitable, AccessDenied: A setting or right must be changed first.
    """
    deadline = world.clock() + world.policy.call_timeout_seconds
    while True:
        try:
            yield from _once(world, deadline)
            return
        except SetbackError as setback:
            world.routes.suspect()
            if world.clock() + _PAUSE_SECONDS >= deadline:
                raise Unavailable(f"not ready: {setback}", reason=str(setback)) from None
        yield Pause(_PAUSE_SECONDS)


def _once(world: World, deadline: float) -> Steps[None]:
    routes = world.routes

    def due() -> bool:
        return routes.due(world.clock())

    if due() or not routes.nodes():
        yield Once("routes", deadline, due, lambda: routes.refresh(world.clock, deadline))
    if not routes.nodes():
        raise SetbackError("no primary is known")
    for node in routes.nodes():
        yield Once(("suits", node), deadline, lambda: True, partial(inspect, node, world, deadline))
