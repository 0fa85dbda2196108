"""The store for event loops: the same operations as `store`, driven with asyncio.

What belongs here: a table of contents. What does not: logic (`ops`), sending (`transport`).
Invariant: usable from several event loops and after a fork; each has connections of its own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from time import perf_counter
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from lukhas_redis import ops
from lukhas_redis.calls import Op
from lukhas_redis.embedded import ensure_async
from lukhas_redis.models import Metadata
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings
from lukhas_redis.shell import Shell, dress
from lukhas_redis.transport.aio import AsyncTransport
from lukhas_redis.transport.world import ServerInfo

P = ParamSpec("P")
T = TypeVar("T")


class AsyncShell(Shell):
    """Drives operations on the running event loop."""

    def __init__(self, client: Any, *, tenant: str | None = None, settings: Settings | None = None) -> None:
        super().__init__(client, tenant=tenant, settings=settings)
        self._link: AsyncTransport | None = None

    async def run(self, op: Op[T], name: str = "operation", *, dry_run: bool = False) -> T:
        """Run an operation to its result, measured under `name`; a failed `dry_run` is not counted.

        Cancelling leaves open whether it was applied.
        """
        started = perf_counter()
        try:
            result = await (self._link or await self._connect()).run(op)
        except BaseException as error:
            self._failed(name, started, error, dry_run=dry_run)
            raise
        return self._finished(name, started, result)

    async def _connect(self) -> AsyncTransport:
        target = self._target if self._target is not None else (await ensure_async()).url
        if self._link is None:
            self._link = AsyncTransport(target, self.settings)
        return self._link


def _aio(op: Callable[Concatenate[Space, P], Op[T]]) -> Callable[Concatenate[AsyncShell, P], Coroutine[Any, Any, T]]:
    name = op.__name__

    async def method(self: AsyncShell, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.run(op(self._space, *args, **kwargs), name, dry_run=bool(kwargs.get("dry_run")))

    dress(method, op)
    return method


class AsyncContextStore(AsyncShell):
    """Contexts of one tenant, shared with every other worker; asyncio.

    Make one with `connect`, or give the constructor an asyncio redis-py client (`Redis` or `RedisCluster`).
    """

    preserve = _aio(ops.preserve)
    preserve_many = _aio(ops.preserve_many)
    restore = _aio(ops.restore)
    restore_many = _aio(ops.restore_many)
    append = _aio(ops.append)
    patch = _aio(ops.patch)
    handoff = _aio(ops.handoff)
    extend = _aio(ops.extend)
    pin = _aio(ops.pin)
    drop = _aio(ops.drop)
    lease = _aio(ops.lease)
    renew = _aio(ops.renew)
    release = _aio(ops.release)
    metadata = _aio(ops.metadata)
    lifecycle = _aio(ops.lifecycle)
    hops = _aio(ops.hops)
    stats = _aio(ops.stats)
    events = _aio(ops.events)
    set_mode = _aio(ops.set_mode)
    set_flag = _aio(ops.set_flag)
    flags = _aio(ops.flags)
    audit = _aio(ops.audit)
    sweep = _aio(ops.sweep)
    check = _aio(ops.check)
    repair = _aio(ops.repair)

    async def list(
        self, *, session_id: str | None = None, context_type: str | None = None, page: int = 100
    ) -> AsyncIterator[Metadata]:
        """Iterate over the metadata of live contexts, soonest deadline first on each shard, `page` (1..1000) a call.

        A context that lives unchanged through the whole listing is listed exactly once.

        Raises:
            InvalidArgument, InvalidId: Nothing was sent; do not retry.
            Unavailable: Start again.
        """
        cursor = ops.Cursor()
        while not cursor.done:
            step = ops.list_page(self._space, cursor, session_id=session_id, context_type=context_type, page=page)
            found, cursor = await self.run(step, "list")
            for one in found:
                yield one

    async def ready(self) -> ServerInfo:
        """Connect, check that the server suits, and return what it is.

        Raises:
            ServerUnsuitable, AccessDenied: A setting or right must be changed first; the message names it.
            Unavailable: Retry later.
        """
        link = self._link or await self._connect()
        await link.ready()
        return self._server(link.server)

    async def close(self) -> None:
        """Close the connections (asyncio: of this event loop); the next call opens new ones."""
        # The link stays: another event loop may have connections in it, and only that loop can close them.
        if self._link is not None:
            await self._link.close()

    async def __aenter__(self) -> Self:
        """Return the store itself."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.close()
