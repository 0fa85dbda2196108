"""A TCP proxy that loses replies, delays, cuts and refuses on command.

What belongs here: the listening side and the controls, callable from any thread. What does not: what happens on one
connection (see `proxy_link`). Invariant: a control has taken effect for all connections when its method returns.

The proxy runs an event loop in a thread of its own, so it serves sync tests, and async ones without entering theirs.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from lukhas_redis.testing.ports import HOST, free_port
from lukhas_redis.testing.proxy_link import Counters, Faults, Link

T = TypeVar("T")

_CONTROL_SECONDS = 30.0


class HasAddress(Protocol):
    """A server that has a URL, a host and a port."""

    @property
    def url(self) -> str:
        """Its URL."""
        ...

    @property
    def host(self) -> str:
        """Its host."""
        ...

    @property
    def port(self) -> int:
        """Its TCP port."""
        ...


class TcpProxy:
    """Forwards a loopback port to a server. A context manager: leaving it closes every connection.

    It understands requests in RESP as clients send them, not inline ones as people type them. One proxy stands for one
    address: Sentinel and Cluster tell clients the real addresses of their nodes.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = HOST
        self.port = free_port()
        self.counters = Counters()
        self._target = (host, port)
        self._faults = Faults()
        self._links: set[Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._thread.start()
        self._faults.open.set()
        self.accept()

    @classmethod
    def to(cls, server: HasAddress) -> TcpProxy:
        """A proxy in front of a server."""
        return cls(server.host, server.port)

    def url_for(self, server: HasAddress) -> str:
        """The server's URL, by way of this proxy."""
        parts = urlsplit(server.url)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}{self.host}:{self.port}").geturl()

    @property
    def connections(self) -> int:
        """Connections accepted so far."""
        return self.counters.connections

    @property
    def open_connections(self) -> int:
        """Connections open now."""
        return len(self._links)

    @property
    def dropped(self) -> int:
        """Replies dropped so far."""
        return self.counters.dropped

    def drop_replies(self, count: int = 1, *, command: str | None = None) -> None:
        """Lose the replies to the next `count` requests: each is executed, then its connection closes without a word.

        `command` names which requests as they go over the wire (`EVALSHA`; redis-py's `incr` sends `INCRBY`); None
        means any but those of a client's handshake. Replies to
        earlier requests of the same pipeline are lost too; `count` 0 ends it.
        """

        def arm() -> None:
            self._faults.drops = count
            self._faults.drop_command = command.upper().encode() if command else None

        self._do(arm)

    def delay(self, milliseconds: float) -> None:
        """Hold every chunk of replies back for so long; 0 ends it, but not for a chunk that is already held."""
        self._do(lambda: setattr(self._faults, "delay_seconds", milliseconds / 1000))

    def cut_after(self, size: int | None) -> None:
        """Pass `size` more bytes of replies, over all connections, then close each one that gets more; None ends it."""
        self._do(lambda: setattr(self._faults, "budget", size))

    def half_close(self) -> None:
        """End the reply direction of every open connection; requests still reach the server."""
        self._do(self._end_replies)

    def cut(self) -> None:
        """Reset every open connection; new ones are welcome."""
        self._do(self._abort_links)

    def pause(self) -> None:
        """Pass nothing in either direction; connections stay open and new ones are accepted."""
        self._do(self._faults.open.clear)

    def resume(self) -> None:
        """Pass what `pause` held back."""
        self._do(self._faults.open.set)

    def refuse(self) -> None:
        """Stop listening and reset every connection: connecting is refused until `accept`."""
        self._do(self._stop_listening)
        self._wait_for(self._closed())

    def accept(self) -> None:
        """Listen (again) on the same port."""
        self._wait_for(self._listen())

    def heal(self) -> None:
        """End every fault."""
        self.drop_replies(0)
        self.delay(0)
        self.cut_after(None)
        self.resume()
        self.accept()

    def close(self) -> None:
        """Close everything and end the thread."""
        if not self._thread.is_alive():
            return
        self.refuse()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, action: Callable[[], object]) -> None:
        async def inside() -> None:
            action()

        asyncio.run_coroutine_threadsafe(inside(), self._loop).result(_CONTROL_SECONDS)

    def _wait_for(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_CONTROL_SECONDS)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, self.host, self.port)

    def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._abort_links()

    def _abort_links(self) -> None:
        for link in self._links:
            link.abort()

    def _end_replies(self) -> None:
        for link in self._links:
            link.end_replies()

    async def _closed(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports say so on the loop's next turn

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise AssertionError("asyncio runs connection handlers as tasks")
        self._tasks.add(task)
        self.counters.connections += 1
        try:
            with suppress(OSError, asyncio.CancelledError):
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        link = Link(writer, server_writer, self._faults, self.counters)
        self._links.add(link)
        try:
            await link.run(reader, server_reader)
        finally:
            self._links.discard(link)
