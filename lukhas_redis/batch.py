"""Several operations of the blocking store in one round trip per node.

What belongs here: a table of contents, and holding operations back until the block ends. What does not: logic (`ops`),
running operations side by side (`calls.together`).
Invariant: nothing is sent before the block ends, and nothing at all when it ends in an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar

from lukhas_redis import ops
from lukhas_redis.calls import Op
from lukhas_redis.errors import InvalidArgument, LukhasRedisError
from lukhas_redis.ops.space import Space
from lukhas_redis.shell import dress

P = ParamSpec("P")
T = TypeVar("T")


class Pending(Generic[T]):
    """The result of an operation in a batch, once the batch was sent."""

    __slots__ = ("_outcome",)

    def __init__(self) -> None:
        self._outcome: list[T | BaseException] = []

    def result(self) -> T:
        """Return the operation's result.

        Raises:
            InvalidArgument: The batch was not sent yet. Ask again after its block.
            LukhasRedisError: What the operation ended with; `retryable` says whether to try it again.
            BaseException: What the block ended with: then nothing was sent.
        """
        if not self._outcome:
            raise InvalidArgument("a batch is sent when its `with` block ends: ask for results after that")
        outcome = self._outcome[0]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def settle(self, outcome: T | BaseException) -> None:
        """Note how it ended."""
        self._outcome = [outcome]


class Runs(Protocol):
    """Runs operations side by side; each result stands at its operation's place, as a value or an error."""

    def __call__(self, queued: Sequence[tuple[str, Op[object]]], /) -> Sequence[object | LukhasRedisError]:
        """`queued`: names and operations."""
        ...


def _queued(op: Callable[Concatenate[Space, P], Op[T]]) -> Callable[Concatenate[Batch, P], Pending[T]]:
    name = op.__name__

    def method(self: Batch, /, *args: P.args, **kwargs: P.kwargs) -> Pending[T]:
        return self.add(name, op(self.space, *args, **kwargs))

    dress(method, op)
    return method


class Batch:
    """Collects operations; made by `ContextStore.batch`, for one thread. Each is atomic, the batch as a whole is not.

    Operations on one context are carried out in the order of their calls, unless one of them has to be repeated or
    asks for a further step (a full tenant, an append to a path not seen before): then later ones may overtake it.
    """

    def __init__(self, space: Space, run: Runs) -> None:
        self.space = space
        self._run = run
        self._queue: list[tuple[str, Op[object], Pending[object]]] = []
        self._open = False

    append = _queued(ops.append)
    patch = _queued(ops.patch)
    preserve = _queued(ops.preserve)
    restore = _queued(ops.restore)
    handoff = _queued(ops.handoff)
    extend = _queued(ops.extend)
    pin = _queued(ops.pin)
    drop = _queued(ops.drop)
    lease = _queued(ops.lease)
    renew = _queued(ops.renew)
    release = _queued(ops.release)
    metadata = _queued(ops.metadata)
    lifecycle = _queued(ops.lifecycle)
    hops = _queued(ops.hops)

    def add(self, name: str, op: Op[T]) -> Pending[T]:
        """Hold an operation back until the block ends.

        Raises:
            InvalidArgument: There is no block that could end: use `with store.batch() as batch`.
        """
        if not self._open:
            raise InvalidArgument("a batch takes operations inside its `with` block only")
        pending: Pending[T] = Pending()
        self._queue.append((name, op, pending))  # type: ignore[arg-type]
        return pending

    def __enter__(self) -> Self:
        """Return the batch itself."""
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send everything, unless the block ended in an exception."""
        self._open = False
        queue, self._queue = self._queue, []
        outcomes: Sequence[object] = ()
        try:
            if error is None and queue:
                outcomes = self._run([(name, op) for name, op, _ in queue])
        except BaseException as broken:
            error = broken
            raise
        finally:
            for place, (_, _, pending) in enumerate(queue):
                pending.settle(outcomes[place] if error is None else error)
