"""What a context takes of the server's memory, in three parts: itself, its request record, its place in the history.

What belongs here: filling, deleting parts, taking differences. What does not: anything timed. Invariant: nobody but the
meter is connected while memory is read, so no client's buffers are in the figures.
"""

from __future__ import annotations

from typing import Any

from benchmarks.bodies import Body
from benchmarks.meters import Meter
from benchmarks.places import bench_settings
from benchmarks.plan import MB
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.models import Preserved
from lukhas_redis.store import ContextStore
from lukhas_redis.testing import RunningServer

_TENANT = "bench"
_AT_ONCE, _AT_ONCE_BYTES = 200, 16 * MB


def measure_all(server: RunningServer, cases: list[tuple[Body, int, int]]) -> list[dict[str, Any]]:
    """Each case on its own; the first is rehearsed, because a server that has just started still lets go of memory."""
    measure(server, *cases[0])
    return [measure(server, *case) for case in cases]


def measure(server: RunningServer, body: Body, contexts: int, per_session: int) -> dict[str, Any]:
    """Fill an empty server with `contexts` of a body, `per_session` in each session, and take its memory apart."""
    admin, meter = server.admin, Meter(server)
    with ContextStore.connect(server.url, tenant=_TENANT, settings=bench_settings()) as store:
        # The tenant's own records and the scripts are there before anything is counted.
        store.drop(store.preserve("warm-up", body.data).context_id)
    empty = meter.memory_bytes()
    with ContextStore.connect(server.url, tenant=_TENANT, settings=bench_settings()) as store:
        fill(store, body, contexts, per_session)
    full = meter.memory_bytes()
    for keys in batched_keys(server, f"*{{{_TENANT}}}:req:*"):
        admin.delete(*keys)
    without_requests = meter.memory_bytes()
    (events,) = list(admin.scan_iter(match=f"*{{{_TENANT}}}:events"))
    entries = int(admin.xlen(events))
    admin.delete(events)
    bare = meter.memory_bytes()
    admin.flushall(asynchronous=False)
    context = round((bare - empty) / contexts)
    return {
        "size": body.size,
        "variant": body.variant,
        "contexts": contexts,
        "per_session": per_session,
        "stored_bytes": len(body.stored),
        "context_bytes": context,
        "beyond_body_bytes": context - len(body.stored),
        "request_bytes": round((full - without_requests) / contexts),
        "history_entries": entries,
        "history_bytes_per_entry": round((without_requests - bare) / entries),
    }


def batched_keys(server: RunningServer, pattern: str) -> list[list[bytes]]:
    """The keys that match, in portions of a thousand."""
    keys = list(server.admin.scan_iter(match=pattern, count=1_000))
    return [keys[start : start + 1_000] for start in range(0, len(keys), 1_000)]


def fill(store: ContextStore, body: Body, contexts: int, per_session: int = 20) -> list[str]:
    """Preserve a body so many times through the product, in pipelines; returns the ids.

    Raises:
        LukhasRedisError: The first that any of them met.
    """
    ids: list[str] = []
    at_once = max(1, min(_AT_ONCE, _AT_ONCE_BYTES // len(body.stored)))
    for start in range(0, contexts, at_once):
        items = [
            {
                "session_id": f"session-{number // per_session}",
                "data": body.data,
                "compression": body.compression,
                "ttl": 86_400,
            }
            for number in range(start, min(start + at_once, contexts))
        ]
        ids += [_stored(result).context_id for result in store.preserve_many(items)]
    return ids


def _stored(result: Preserved | LukhasRedisError) -> Preserved:
    if isinstance(result, LukhasRedisError):
        raise result
    return result
