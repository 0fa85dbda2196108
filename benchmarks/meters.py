"""What a server says of its own work: microseconds by command, bytes of memory.

What belongs here: asking `INFO` and `SLOWLOG`. What does not: what the figures are compared with.
Invariant: commands that a script runs are part of its EVALSHA and are never added to it.
"""

from __future__ import annotations

import statistics
import time
from typing import Any, cast

import redis

from benchmarks.bodies import Body
from benchmarks.counters import Counters, Probe
from lukhas_redis.store import ContextStore
from lukhas_redis.testing import RunningServer

_STEADY_BYTES = 256
_LOOKS = 100
_LOOK_SECONDS = 0.05


class Meter:
    """Reads one server's counters."""

    def __init__(self, server: RunningServer) -> None:
        self._admin: redis.Redis = server.admin
        self._url = server.url
        self._probe = Probe(server)

    def look(self) -> Counters:
        """What the server has done so far."""
        return self._probe.look()

    def memory_bytes(self) -> int:
        """`used_memory` once it stands still: table resizing and closed connections have had their effect.

        Every look is over a fresh connection that is alone, so that clients' buffers weigh the same in all of them.

        Raises:
            RuntimeError: It never does, so something else uses the server.
        """
        self._admin.connection_pool.disconnect()
        last = self._used()
        for _ in range(_LOOKS):
            time.sleep(_LOOK_SECONDS)
            now = self._used()
            if abs(now - last) < _STEADY_BYTES:
                return now
            last = now
        raise RuntimeError("the server's memory does not come to rest")

    def _used(self) -> int:
        with redis.Redis.from_url(self._url) as client:
            return int(client.info("memory")["used_memory"])


def stage_us(server: RunningServer, store: ContextStore, body: Body, calls: int) -> float:
    """Microseconds (median of `calls`) of the SET that sends a large body ahead of its script.

    `commandstats` adds this SET to the one inside the script, so it is taken from the slow log, by its key.
    """
    admin = server.admin
    before = cast("dict[str, str]", admin.config_get("slowlog-*"))
    admin.config_set("slowlog-max-len", 100 * calls)
    admin.config_set("slowlog-log-slower-than", 0)
    try:
        admin.slowlog_reset()
        for _ in range(calls):
            store.preserve("stage", body.data, compression=body.compression)
        entries: list[dict[str, Any]] = list(admin.slowlog_get(100 * calls))
    finally:
        for name, value in before.items():
            admin.config_set(name, value)
    sets = [entry for entry in entries if entry["command"].startswith(b"SET ") and b":stage:" in entry["command"]]
    return float(statistics.median(entry["duration"] for entry in sets))
