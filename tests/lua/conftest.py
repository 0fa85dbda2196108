"""Fixtures: one opened shard of a tenant of the test's own, on every server program."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack

import pytest
import redis

from lukhas_redis.testing import RunningServer, frozen_expiry
from tests.lua.bus import Bus
from tests.lua.shard import Shard


@pytest.fixture
def shard(server: RunningServer, tenant: str) -> Generator[Shard]:
    """An opened shard; nothing expires by itself while the test compares (where the server allows DEBUG)."""
    with server.client() as client, ExitStack() as frozen:
        try:
            frozen.enter_context(frozen_expiry(client))
        except redis.ResponseError:  # a given server without DEBUG: comparisons leave out what is past its deadline
            frozen.pop_all()
        shard = Shard(client, tenant)
        shard.open()
        yield shard


@pytest.fixture
def bus(shard: Shard) -> Bus:
    """The bus of that shard, with one consumer group `g`."""
    bus = Bus(shard)
    bus.join()
    return bus
