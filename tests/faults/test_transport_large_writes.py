"""Large units on the event loop: written in chunks, never half of one followed by something else.

What belongs here: writing beside others, a reader that stops, giving up in the middle. What does not: what a store does
with large contexts (`store/test_large`).
"""

from __future__ import annotations

import asyncio
from asyncio import selector_events
from typing import Any

import pytest

from lukhas_redis.errors import OutcomeUnknown
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, TcpProxy, wait_until_async
from lukhas_redis.transport import AsyncTransport
from lukhas_redis.transport.aio_link import CHUNK_BYTES, Link
from tests.unit.transport.scripts_for_tests import LOOK, asking, count_call, counter_key, read, simple_call, take_call

# More than the buffers of two sockets and a proxy hold.
SIZE = 24_000_000
LARGE = bytes(range(256)) * (SIZE // 256)


def body_key(tag: str) -> str:
    """Where `TAKE` leaves what was staged."""
    return f"t:{{{tag}}}:body"


def links(transport: AsyncTransport) -> list[Link]:
    """The open connections of a transport that has one server."""
    state: Any = transport._state()
    (node,) = state.links.values()
    return [*node._links(), *node._lent]


async def stuck(transport: AsyncTransport) -> Link:
    """The connection on which a large unit is half written, once its reader takes no more."""

    async def found() -> Link | None:
        return next((link for link in links(transport) if link._paused and link._outgoing), None)

    return await wait_until_async(found, what="a half written unit")


async def test_small_calls_go_on_beside_a_large_one(
    server: RunningServer, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No single write holds the loop for more than a chunk, and a small call is answered before the large one."""
    written: list[int] = []
    write = selector_events._SelectorSocketTransport.write  # type: ignore[attr-defined]

    def recorded(self: Any, data: Any) -> None:
        written.append(len(data))
        write(self, data)

    async with AsyncTransport(server.url, Settings()) as transport:
        await transport.run(asking(count_call(tenant, "first")))
        await transport.run(asking(take_call(tenant, b"x" * 70_000, "first")))
        monkeypatch.setattr(selector_events._SelectorSocketTransport, "write", recorded)  # type: ignore[attr-defined]
        large = asyncio.create_task(transport.run(asking(take_call(tenant, LARGE, "large"))))
        await asyncio.sleep(0)
        assert await transport.run(asking(count_call(tenant, "small"))) == 2
        assert not large.done()
        assert await large == len(LARGE)
    assert max(written) <= CHUNK_BYTES
    assert len(written) > len(LARGE) // CHUNK_BYTES
    assert server.admin.get(body_key(tenant)) == LARGE


async def test_cancelled_in_the_middle(server: RunningServer, proxy: TcpProxy, tenant: str) -> None:
    """A caller that goes away while its unit is half written takes the connection with it, and nothing else."""
    async with AsyncTransport(proxy.url_for(server), Settings()) as transport:
        await transport.run(asking(count_call(tenant, "first")))
        await transport.run(asking(take_call(tenant, b"x" * 70_000, "first")))
        proxy.pause()
        task = asyncio.create_task(transport.run(asking(take_call(tenant, LARGE, "large"))))
        link = await stuck(transport)
        other = asyncio.create_task(transport.run(asking(count_call(tenant, "other"))))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert link.closed
        assert not link._outgoing
        proxy.resume()
        assert await other == 2
        assert await transport.run(asking(take_call(tenant, b"y" * 80_000, "next"))) == 80_000
    assert server.admin.get(body_key(tenant)) == b"y" * 80_000


async def test_a_deadline_in_the_middle(server: RunningServer, proxy: TcpProxy, tenant: str) -> None:
    """Half of it was written when time was up: unknown, the connection is closed, the next call gets another."""
    settings = Settings(call_timeout_seconds=1.0, socket_timeout_seconds=30)
    async with AsyncTransport(proxy.url_for(server), settings) as transport:
        await transport.run(asking(take_call(tenant, b"x" * 70_000, "first")))
        proxy.pause()
        task = asyncio.create_task(transport.run(asking(take_call(tenant, LARGE, "large"))))
        link = await stuck(transport)
        with pytest.raises(OutcomeUnknown):
            await task
        assert link.closed
        proxy.resume()
        assert await transport.run(asking(take_call(tenant, b"y" * 80_000, "next"))) == 80_000
    assert server.admin.get(body_key(tenant)) == b"y" * 80_000


async def test_a_reader_that_stops_and_goes_on(server: RunningServer, proxy: TcpProxy, tenant: str) -> None:
    """Writing waits for the reader, holds no more than a chunk for it, and goes on."""
    async with AsyncTransport(proxy.url_for(server), Settings()) as transport:
        await transport.run(asking(take_call(tenant, b"x" * 70_000, "first")))
        proxy.pause()
        task = asyncio.create_task(transport.run(asking(take_call(tenant, LARGE, "large"))))
        link = await stuck(transport)
        assert link._transport.get_write_buffer_size() <= 2 * CHUNK_BYTES
        proxy.resume()
        assert await task == len(LARGE)
    assert server.admin.get(body_key(tenant)) == LARGE


async def test_a_broken_connection_in_the_middle(server: RunningServer, proxy: TcpProxy, tenant: str) -> None:
    """A unit whose connection breaks while it is written is sent again as a whole."""
    async with AsyncTransport(proxy.url_for(server), Settings()) as transport:
        await transport.run(asking(take_call(tenant, b"x" * 70_000, "first")))
        proxy.pause()
        task = asyncio.create_task(transport.run(asking(take_call(tenant, LARGE, "large"))))
        await stuck(transport)
        proxy.cut()
        proxy.resume()
        assert await task == len(LARGE)
    assert server.admin.get(body_key(tenant)) == LARGE


async def test_one_connection_for_all_keeps_the_order(server: RunningServer, tenant: str) -> None:
    """Where only one connection is allowed, what is asked for behind a large unit comes after it, in order."""
    async with AsyncTransport(server.url, Settings(max_connections=1)) as transport:
        await transport.run(asking(count_call(tenant, "first")))
        await transport.run(asking(take_call(tenant, b"x" * 70_000, "first")))
        replies: tuple[Any, ...] = await asyncio.gather(
            transport.run(asking(count_call(tenant, "a"))),
            transport.run(asking(take_call(tenant, LARGE, "large"))),
            transport.run(asking(read(tenant, "STRLEN", body_key(tenant)))),
            transport.run(asking(count_call(tenant, "b"))),
            transport.run(asking(take_call(tenant, b"z" * 300_000, "second"))),
            transport.run(asking(count_call(tenant, "c"))),
        )
    assert list(replies) == [2, len(LARGE), len(LARGE), 3, 300_000, 4]


async def test_cancelled_on_the_only_connection(server: RunningServer, proxy: TcpProxy, tenant: str) -> None:
    """A unit that others wait behind is written to its end when its caller goes: they get their own replies."""
    async with AsyncTransport(proxy.url_for(server), Settings(max_connections=1)) as transport:
        await transport.run(asking(count_call(tenant, "first")))
        proxy.pause()
        task = asyncio.create_task(transport.run(asking(take_call(tenant, LARGE, "large"))))
        link = await stuck(transport)
        behind = [asyncio.create_task(transport.run(asking(count_call(tenant, f"b{n}")))) for n in range(5)]
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        proxy.resume()
        assert await asyncio.gather(*behind) == [2, 3, 4, 5, 6]
        assert links(transport) == [link]
        assert await transport.run(asking(simple_call(LOOK, tenant))) == 6
    assert server.admin.get(counter_key(tenant)) == b"6"
