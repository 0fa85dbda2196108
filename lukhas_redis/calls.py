"""What an operation asks of a server, and how an operation is written.

What belongs here: the requests an operation may yield and the type of an operation. What does not: how a
request is sent, retried or mapped to an error (`transport`).
Invariant: an operation is a generator; it does no I/O, takes no time and makes no randomness of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias, TypeVar

from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.scripts import Arg, Script

T = TypeVar("T")
Command: TypeAlias = tuple[Arg, ...] | bytes
"""The words of a command, or all of it as it travels."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A payload that travels beside its script: `SET key payload EX 60`, then the script, as one unit."""

    key: str
    payload: bytes


@dataclass(slots=True)
class Call:
    """One script on one hash tag; not changed once made (`frozen` would triple the price of making one).

    `words` come from `Script.pack`, or from a `Frame` that also gives the whole command, `packed`. A call is repeated
    after a lost reply only when the script reads only or `request_id` is set, because only then is a repeat harmless.
    `durability` beyond `memory` makes the transport confirm the write on the connection that made it. `best_effort`
    calls are tried once.
    """

    script: Script
    tag: str
    words: Sequence[Arg]
    request_id: str | None = None
    stage: Stage | None = None
    durability: str = "memory"
    best_effort: bool = False
    packed: bytes | None = None

    @property
    def command(self) -> Command:
        """The command that runs the script."""
        return self.packed or ("EVALSHA", self.script.sha, *self.words)

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice has the effect of sending it once."""
        return self.request_id is not None or self.script.reads_only


@dataclass(frozen=True, slots=True)
class Read:
    """One plain command that only reads, such as `GET body`, on one hash tag."""

    tag: str
    words: tuple[Arg, ...]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A read-only script and plain reads that see the same moment (`MULTI`); answered with one reply for each."""

    call: Call
    reads: tuple[Read, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """A computation on `size` bytes that lets go of the interpreter lock (hashing, compression).

    Answered with what `run()` returns; an event loop has it done in a thread when it is large.
    """

    run: Callable[[], Any]
    size: int


# From here on a thread costs less than the time that an event loop would stand still.
BESIDE_BYTES = 262_144


Sent: TypeAlias = Call | Read | Snapshot
Request: TypeAlias = Sent | Work
Op: TypeAlias = Generator[Request | tuple[Request, ...], Any, T]
"""An operation: yields a request and is sent its reply, or yields a tuple of requests and is sent a list with a
reply or an error for each (sent together, one round trip per node). A failed single request is thrown in."""


def beside(run: Callable[[], T], size: int) -> Op[T]:
    """Compute on `size` bytes, away from an event loop when that takes long; small work is done on the spot."""
    return (yield Work(run, size)) if size >= BESIDE_BYTES else run()


class Refused(Exception):
    """A script refused: `word` is its code word (`LKCONFLICT`), `facts` the `name=value` pairs after it."""

    def __init__(self, word: str, facts: dict[str, str]) -> None:
        super().__init__(word, facts)
        self.word = word
        self.facts = facts

    def number(self, name: str) -> int:
        """The fact `name` as an integer, 0 when the script did not give it."""
        return int(self.facts.get(name, "0"))


def together(ops: Sequence[Op[T]]) -> Op[list[T | LukhasRedisError]]:
    """Run operations side by side: every step sends what all of them wait for as one tuple of requests.

    Each result stands at its operation's place: its value, or the error it ended with. One that fails does
    not disturb the others.
    """
    results: list[Any] = [None] * len(ops)
    waiting: dict[int, Request | tuple[Request, ...]] = {}

    def step(place: int, reply: Any) -> None:
        op = ops[place]
        try:
            failed = isinstance(reply, BaseException)
            waiting[place] = op.throw(reply) if failed else op.send(reply)
        except StopIteration as done:
            results[place] = done.value
        except LukhasRedisError as error:
            results[place] = error

    for place in range(len(ops)):
        step(place, None)
    while waiting:
        # Computations first, alone: whoever needs one must not be overtaken by calls that were asked for later.
        working = [place for place, wanted in waiting.items() if type(wanted) is Work]
        sent = {place: waiting.pop(place) for place in working or sorted(waiting)}
        replies = yield tuple(chain.from_iterable(_as_tuple(wanted) for wanted in sent.values()))
        start = 0
        for place, wanted in sent.items():
            count = len(_as_tuple(wanted))
            step(place, replies[start : start + count] if isinstance(wanted, tuple) else replies[start])
            start += count
    return results


def _as_tuple(wanted: Request | tuple[Request, ...]) -> tuple[Request, ...]:
    return wanted if isinstance(wanted, tuple) else (wanted,)
