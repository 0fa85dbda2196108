"""What the engine knows and may use besides the request: limits, time, chance, topology, checked servers.

What belongs here: values handed to the pure half. What does not: rules.
Invariant: everything here is either constant or a record of what a server said, with the time it said so.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lukhas_redis.transport.steps import Node

if TYPE_CHECKING:
    from lukhas_redis.settings import Settings
    from lukhas_redis.transport.routes import Routes


@dataclass(frozen=True, slots=True)
class Policy:
    """The limits of `Settings` that concern the transport; times in seconds unless named otherwise."""

    call_timeout_seconds: float = 5.0
    check_interval_seconds: float = 30.0
    replicas_to_wait: int = 1
    wait_timeout_ms: int = 1000
    server_appendfsync: str | None = None
    require_noeviction: bool = True
    first_pause_seconds: float = 0.01
    longest_pause_seconds: float = 0.5

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """The policy that `settings` asks for."""
        return cls(
            call_timeout_seconds=settings.call_timeout_seconds,
            check_interval_seconds=settings.check_interval_seconds,
            replicas_to_wait=settings.replicas_to_wait,
            wait_timeout_ms=settings.wait_timeout_ms,
            server_appendfsync=settings.server_appendfsync,
            require_noeviction=settings.require_noeviction,
        )


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What a server says it is: `flavor` redis or valkey, its version, and how it is deployed."""

    flavor: str
    version: str
    mode: str


class Knowledge:
    """What was found out about each server, until its connection breaks or the check interval is over."""

    def __init__(self) -> None:
        self.server: ServerInfo | None = None
        self._checked: dict[Node, float] = {}
        self._durable: dict[Node, float] = {}

    def checked(self, node: Node, after: float) -> bool:
        """Whether the server was found suitable later than `after`."""
        return self._checked.get(node, -1.0) > after

    def durable(self, node: Node, after: float) -> bool:
        """Whether the server was found to be configured for durable writes later than `after`."""
        return self._durable.get(node, -1.0) > after

    def found_suitable(self, node: Node, now: float, server: ServerInfo) -> None:
        """Record that the server's version and configuration suit."""
        self._checked[node] = now
        self.server = server

    def found_durable(self, node: Node, now: float) -> None:
        """Record that the server is configured for durable writes."""
        self._durable[node] = now

    def forget(self, node: Node) -> None:
        """A new connection, or a doubt: the server may be another one, or configured anew."""
        self._checked.pop(node, None)
        self._durable.pop(node, None)


@dataclass(slots=True)
class World:
    """All that an attempt depends on. Tests put a virtual clock and a seeded `chance` in."""

    policy: Policy
    routes: Routes
    knowledge: Knowledge = field(default_factory=Knowledge)
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
