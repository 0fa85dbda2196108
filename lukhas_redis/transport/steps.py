"""The vocabulary between the pure half of the transport and its two shells.

What belongs here: the steps a generator may ask a shell for, what it is answered, and the place a step goes to.
What does not: which step comes when (`engine`), or how one is carried out (`sync`, `aio`).
Invariant: nothing here does I/O; a shell that can carry out these steps needs no rule of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias, TypeVar

from lukhas_redis.calls import Command, Work
from lukhas_redis.errors import LukhasRedisError

T = TypeVar("T")


class Node(NamedTuple):
    """Where a server listens: `host` and `port`, or the `path` of a unix socket.

    `role` says what it is asked for: `data` (a primary, checked on every new connection), `map` (a cluster's slots,
    which replicas show as well) or `sentinel` (which has credentials of its own).
    """

    host: str
    port: int
    path: str = ""
    role: str = "data"

    def __str__(self) -> str:
        return self.path or f"{self.host}:{self.port}"


class ServerReply(Exception):
    """An error reply of the server, kept as a value: `str()` is the whole message, its first word the code."""


@dataclass(slots=True)
class Exchange:
    """Send `commands` to `node` in this order on one connection and collect one reply for each.

    `deadline` is when the reply is no longer wanted, on the clock of the world. With `own_connection` no other
    caller's commands share the connection meanwhile. Answered with a list of replies, `NotSent` or `Lost`.
    """

    node: Node
    commands: Sequence[Command]
    deadline: float
    own_connection: bool = False


@dataclass(slots=True)
class Round:
    """Several exchanges at once; answered with a list of their results in the same order."""

    exchanges: tuple[Exchange, ...]


@dataclass(slots=True)
class Pause:
    """Wait `seconds`; answered with None."""

    seconds: float


@dataclass(slots=True)
class Once:
    """Run `steps()` unless somebody runs the same `key` already, then wait for that one; answered with None.

    `needed` is asked again before running: whoever was first may have done the work. An error that the steps
    end with is thrown into everybody who waits, and `SetbackError` into who would wait past `deadline`.
    """

    key: Hashable
    deadline: float
    needed: Callable[[], bool]
    steps: Callable[[], Steps[None]]


@dataclass(slots=True)
class NotSent:
    """Nothing was written to a socket, so nothing was applied.

    `reply` is what a server said to the handshake; `error` is why a server that was reached must not be used.
    """

    reason: str
    reply: str = ""
    error: LukhasRedisError | None = None


@dataclass(slots=True)
class Lost:
    """The commands, or a part of them, were written, and the connection broke before all replies came.

    `collected` are the replies that came before.
    """

    reason: str
    collected: list[Any] = field(default_factory=list)


Step: TypeAlias = Exchange | Round | Pause | Once | Work
Result: TypeAlias = Any
Steps: TypeAlias = Generator[Step, Result, T]
Outcome: TypeAlias = list[Any] | NotSent | Lost


class SetbackError(Exception):
    """What had to come before the call (topology, server check) failed; the call itself was not sent.

    Not an error for callers: `engine` retries it until the deadline, or turns it into `Unavailable`.
    """
