"""What the two dump-compare fuzzes share: a server without memory, what changed, what a server says of its own.

What belongs here: looking and preparing. What does not: calls and damage (`mischief`, `bus_mischief`).
Invariant: keys past their deadline are not compared: they may go at any moment.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress

import redis

from lukhas_redis.testing import Dump, difference
from tests.lua.shard import Shard

# What a server says of its own: another type, no memory, or a stream that is at its end.
SERVER_REFUSALS = (
    "WRONGTYPE ",
    "command not allowed when used memory",
    "The stream has exhausted the last possible ID",
)


@contextmanager
def memory(shard: Shard, *, is_full: bool) -> Generator[None]:
    """For one call the server has no memory left (where it lets itself be told so)."""
    if not is_full:
        yield
        return
    with suppress(redis.ResponseError):
        shard.client.config_set("maxmemory", 1)
    try:
        yield
    finally:
        with suppress(redis.ResponseError):
            shard.client.config_set("maxmemory", 0)


def changed(shard: Shard, before: Dump) -> list[str]:
    """One line for everything that is not as it was."""
    after, now = shard.dump(), shard.now_ms()
    was, is_now = (
        {key: one for key, one in found.items() if one.deadline_ms is None or one.deadline_ms > now}
        for found in (before, after)
    )
    return difference(was, is_now)
