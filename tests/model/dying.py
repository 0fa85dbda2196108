"""Clients that die: an operation that ends between the server's answer and anybody who looks at it.

What belongs here: ending an operation early. What does not: what was done by then (the machine's model knows).
Invariant: everything the operation sent up to its end was carried out by the server.
"""

from __future__ import annotations

from typing import Any

from lukhas_redis.calls import Op, Refused
from lukhas_redis.errors import LukhasRedisError


class ClientDiedError(Exception):
    """Raised where a worker would be killed: after an answer has come that nobody looks at any more."""


def dying(op: Op[Any], after: int) -> Op[Any]:
    """Run an operation until its `after`th reply, then die."""
    wanted = next(op)
    try:
        for _ in range(after):
            try:
                reply = yield wanted
            except (LukhasRedisError, Refused) as error:
                wanted = op.throw(error)
            else:
                wanted = op.send(reply)
    except StopIteration as done:
        return done.value
    op.close()
    raise ClientDiedError
