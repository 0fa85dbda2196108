"""Waiting for a condition instead of sleeping.

What belongs here: the two loops, sync and async. What does not: any condition. Invariant: returns as soon as the
condition holds, and never returns when it does not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.01


def wait_until(condition: Callable[[], T | None], *, timeout: float = 15.0, what: str = "") -> T:
    """Call `condition` until it returns something true, and return that.

    `timeout` is in seconds and generous: it only bounds how long a broken test hangs. `what` names the condition in
    the error. An exception of `condition` is not caught.

    Raises:
        TimeoutError: it did not hold in time; names `what` and the last value.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(_message(condition, timeout, what, value))
        time.sleep(_POLL_SECONDS)
    return value


async def wait_until_async(condition: Callable[[], Awaitable[T | None]], *, timeout: float = 15.0, what: str = "") -> T:
    """`wait_until` for an async condition; other tasks run meanwhile."""
    deadline = time.monotonic() + timeout
    while not (value := await condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(_message(condition, timeout, what, value))
        await asyncio.sleep(_POLL_SECONDS)
    return value


def _message(condition: object, timeout: float, what: str, value: object) -> str:
    return f"{what or condition!r} did not hold within {timeout} s; last value: {value!r}"
