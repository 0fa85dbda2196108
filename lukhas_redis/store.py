"""The store for threads: the same operations as `aio`, driven with blocking I/O.

What belongs here: a table of contents. What does not: logic (`ops`), sending (`transport`).
Invariant: safe to share between threads; after a fork the child gets connections of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from time import perf_counter
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from lukhas_redis import ops
from lukhas_redis.batch import Batch
from lukhas_redis.calls import Op, together
from lukhas_redis.embedded import ensure
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.models import Metadata
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings
from lukhas_redis.shell import Shell, dress
from lukhas_redis.transport.sync import SyncTransport
from lukhas_redis.transport.world import ServerInfo

P = ParamSpec("P")
T = TypeVar("T")


class SyncShell(Shell):
    """Drives operations with blocking I/O."""

    def __init__(self, client: Any, *, tenant: str | None = None, settings: Settings | None = None) -> None:
        super().__init__(client, tenant=tenant, settings=settings)
        self._lock = threading.Lock()
        self._link: SyncTransport | None = None

    def run(self, op: Op[T], name: str = "operation", *, dry_run: bool = False) -> T:
        """Run an operation to its result, measured under `name` (a failed `dry_run` is not counted)."""
        started = perf_counter()
        try:
            result = (self._link or self._connect()).run(op)
        except BaseException as error:
            self._failed(name, started, error, dry_run=dry_run)
            raise
        return self._finished(name, started, result)

    def _connect(self) -> SyncTransport:
        with self._lock:
            if self._link is None:
                target = self._target if self._target is not None else ensure().url
                self._link = SyncTransport(target, self.settings)
            return self._link


def _sync(op: Callable[Concatenate[Space, P], Op[T]]) -> Callable[Concatenate[SyncShell, P], T]:
    name = op.__name__

    def method(self: SyncShell, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.run(op(self._space, *args, **kwargs), name, dry_run=bool(kwargs.get("dry_run")))

    dress(method, op)
    return method


class ContextStore(SyncShell):
    """Contexts of one tenant, shared with every other worker; blocking.

    Make one with `connect`, or give the constructor a redis-py client (`Redis` or `RedisCluster`).
    """

    preserve = _sync(ops.preserve)
    preserve_many = _sync(ops.preserve_many)
    restore = _sync(ops.restore)
    restore_many = _sync(ops.restore_many)
    append = _sync(ops.append)
    patch = _sync(ops.patch)
    handoff = _sync(ops.handoff)
    extend = _sync(ops.extend)
    pin = _sync(ops.pin)
    drop = _sync(ops.drop)
    lease = _sync(ops.lease)
    renew = _sync(ops.renew)
    release = _sync(ops.release)
    metadata = _sync(ops.metadata)
    lifecycle = _sync(ops.lifecycle)
    hops = _sync(ops.hops)
    stats = _sync(ops.stats)
    events = _sync(ops.events)
    set_mode = _sync(ops.set_mode)
    set_flag = _sync(ops.set_flag)
    flags = _sync(ops.flags)
    audit = _sync(ops.audit)
    sweep = _sync(ops.sweep)
    check = _sync(ops.check)
    repair = _sync(ops.repair)

    def batch(self) -> Batch:
        """A block whose operations leave together when it ends, in one round trip per node where they need but one.

        `with store.batch() as batch: kept = batch.preserve(...)`, and after the block `kept.result()`. Every method of
        the batch takes what the store's takes and returns a `Pending`. One operation that fails does not disturb the
        others. An exception in the block: nothing is sent.
        """
        return Batch(self._space, self._run_batch)

    def _run_batch(self, queued: Sequence[tuple[str, Op[object]]]) -> Sequence[object | LukhasRedisError]:
        outcomes = self.run(together([op for _, op in queued]), "batch")
        for (name, _), outcome in zip(queued, outcomes, strict=True):
            self._telemetry.one_of_many(name, self._space, outcome)
        return outcomes

    def list(
        self, *, session_id: str | None = None, context_type: str | None = None, page: int = 100
    ) -> Iterator[Metadata]:
        """Iterate over the metadata of live contexts, soonest deadline first on each shard, `page` (1..1000) a call.

        A context that lives unchanged through the whole listing is listed exactly once.

        Raises:
            InvalidArgument, InvalidId: Nothing was sent; do not retry.
            Unavailable: Start again.
        """
        cursor = ops.Cursor()
        while not cursor.done:
            step = ops.list_page(self._space, cursor, session_id=session_id, context_type=context_type, page=page)
            found, cursor = self.run(step, "list")
            yield from found

    def ready(self) -> ServerInfo:
        """Connect, check that the server suits, and return what it is.

        Raises:
            ServerUnsuitable, AccessDenied: A setting or right must be changed first; the message names it.
            Unavailable: Retry later.
        """
        link = self._link or self._connect()
        link.ready()
        return self._server(link.server)

    def close(self) -> None:
        """Close the connections (asyncio: of this event loop); the next call opens new ones."""
        with self._lock:
            link, self._link = self._link, None
        if link is not None:
            link.close()

    def __enter__(self) -> Self:
        """Return the store itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()
