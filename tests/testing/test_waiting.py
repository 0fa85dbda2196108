"""Waiting for conditions."""

from __future__ import annotations

import pytest

from lukhas_redis.testing import wait_until, wait_until_async


def test_the_value_is_returned_once_it_is_true() -> None:
    """wait_until calls again until the value is true and returns that value."""
    values = iter([0, None, "", "there", "later"])
    assert wait_until(lambda: next(values)) == "there"


async def test_the_async_value_is_returned_once_it_is_true() -> None:
    """wait_until_async does the same for a coroutine."""
    values = iter([0, 7])

    async def value() -> int:
        return next(values)

    assert await wait_until_async(value) == 7


async def test_what_never_holds_is_named() -> None:
    """A condition that never holds ends in TimeoutError with its name and its last value, sync and async."""

    async def never() -> int:
        return 0

    with pytest.raises(TimeoutError, match=r"pigs fly.*last value: 0"):
        wait_until(lambda: 0, timeout=0, what="pigs fly")
    with pytest.raises(TimeoutError, match=r"pigs fly.*last value: 0"):
        await wait_until_async(never, timeout=0, what="pigs fly")


def test_an_error_of_the_condition_is_not_hidden() -> None:
    """An exception in the condition ends the wait."""
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0)
