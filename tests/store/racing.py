"""Other workers that come between: something happens after the nth answer that an operation gets.

What belongs here: interrupting an operation. What does not: what happens then (the tests).
Invariant: the operation itself is sent as ever; an `act` beyond its last answer never happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lukhas_redis.calls import Op, Refused
from lukhas_redis.errors import LukhasRedisError

T = TypeVar("T")


def between(op: Op[T], after: int, act: Callable[[], object]) -> Op[T]:
    """Run `op`; when its `after`th answer has come (0: before anything is sent), do `act` before it goes on."""
    wanted = next(op)
    answers = 0
    if after == 0:
        act()
    try:
        while True:
            try:
                reply = yield wanted
            except (LukhasRedisError, Refused) as error:
                answers += 1
                if answers == after:
                    act()
                wanted = op.throw(error)
            else:
                answers += 1
                if answers == after:
                    act()
                wanted = op.send(reply)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
