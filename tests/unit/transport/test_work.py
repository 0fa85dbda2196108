"""Computations of an operation: where they run, that their results and failures reach who asked, and cancellation."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from lukhas_redis.calls import Op, Request, Work, together
from lukhas_redis.settings import Settings
from lukhas_redis.transport import AsyncTransport
from tests.unit.transport.scripts_for_tests import asking, asking_all, read
from tests.unit.transport.shells import AsyncShell, Shell, on_both_shells

# Nobody listens there; computations need no server.
NOWHERE = "redis://127.0.0.1:1"
LARGE = 1_000_000


def thread(size: int) -> Work:
    """A computation that tells which thread it ran in."""
    return Work(threading.get_ident, size)


def failing(size: int, error: Exception) -> Work:
    """A computation that raises."""

    def run() -> None:
        raise error

    return Work(run, size)


def catching(work: Work, kind: type[Exception]) -> Op[str]:
    """An operation that expects its computation to fail."""
    try:
        yield work
    except kind as error:
        return f"caught {error}"
    return "nothing to catch"


@on_both_shells
@pytest.mark.parametrize("size", [1, LARGE])
def test_an_operation_is_sent_the_result(shell: type[Shell], size: int) -> None:
    """Alone or beside others, in the order asked for."""
    with shell(NOWHERE) as used:
        assert used.run(asking(Work(lambda: 41 + 1, size))) == 42
        assert used.run(asking_all(Work(lambda: 1, size), Work(lambda: 2, 1), Work(lambda: 3, size))) == [1, 2, 3]


@on_both_shells
@pytest.mark.parametrize("size", [1, LARGE])
@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError])
def test_a_failure_is_thrown_into_the_operation(shell: type[Shell], size: int, kind: type[Exception]) -> None:
    """Whatever a computation raises arrives where it was asked for, also in the middle of others."""
    with shell(NOWHERE) as used:
        said = used.run(catching(failing(size, kind("no")), kind))
        assert said.startswith("caught")
        first, second, third = used.run(asking_all(Work(lambda: 1, size), failing(size, ValueError("no")), thread(1)))
        assert (first, str(second), third) == (1, "no", third)
        assert isinstance(second, ValueError)


@on_both_shells
def test_a_small_computation_runs_where_it_is_asked_for(shell: type[Shell]) -> None:
    """Only what is large is worth a thread, and only where others wait meanwhile."""
    with shell(NOWHERE) as used:
        assert used.run(asking(thread(1))) == threading.get_ident()
        away = used.run(asking(thread(LARGE))) != threading.get_ident()
        assert away == (shell is AsyncShell)


@on_both_shells
def test_together_failures_stay_with_their_operation(shell: type[Shell]) -> None:
    """Operations side by side: each gets the result or the failure of its own computations."""
    ops = [catching(failing(LARGE, ValueError("a")), ValueError), asking(Work(lambda: 7, 1)), _twice()]
    with shell(NOWHERE) as used:
        assert used.run(together(ops)) == ["caught a", 7, 3]


def _twice() -> Op[int]:
    one = yield Work(lambda: 1, LARGE)
    two, _ = yield Work(lambda: 2, LARGE), Work(lambda: 0, 1)
    return int(one + two)


def test_together_computes_before_it_calls() -> None:
    """An operation that computes first is not overtaken by the calls of those behind it."""
    first, second = read("t", "GET", "first"), read("t", "GET", "second")
    steps: Any = together([_computing(first), asking(second)])
    (work,) = next(steps)
    assert isinstance(work, Work)
    assert steps.send([1]) == (first, second)


def _computing(request: Request) -> Op[Any]:
    yield Work(lambda: 1, 1)
    return (yield request)


async def test_others_go_on_meanwhile() -> None:
    """While a thread computes, the loop serves other operations."""
    release = threading.Event()
    async with AsyncTransport(NOWHERE, Settings()) as transport:
        waiting = asyncio.create_task(transport.run(asking(Work(lambda: release.wait(20), LARGE))))
        await asyncio.sleep(0)
        assert await transport.run(asking(Work(lambda: "small", 1))) == "small"
        assert not waiting.done()
        release.set()
        assert await waiting


async def test_cancelling_is_the_callers() -> None:
    """A cancelled caller goes at once; what the thread ends with later disturbs nobody."""
    started, release = threading.Event(), threading.Event()

    def run() -> None:
        started.set()
        release.wait(20)
        raise ValueError("nobody listens any more")

    closed: list[str] = []

    def op() -> Op[None]:
        try:
            yield Work(run, LARGE)
        finally:
            closed.append("closed")

    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with AsyncTransport(NOWHERE, Settings()) as transport:
        task = asyncio.create_task(transport.run(op()))
        await asyncio.to_thread(started.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert closed == ["closed"]
        release.set()
        assert await transport.run(asking(Work(lambda: 5, LARGE))) == 5
    await asyncio.sleep(0.01)
    assert problems == []
