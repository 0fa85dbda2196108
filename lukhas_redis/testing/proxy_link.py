"""One proxied connection, and the faults that all connections share.

What belongs here: moving bytes between two sockets and deciding, at exact message boundaries, what is lost. What does
not: listening and the controls (see `proxy`). Invariant: a reply is dropped only after it arrived here, so its request
has surely been executed; no byte of it reaches the client.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass, field

import hiredis

_CHUNK = 65_536
_NO_LINGER = struct.pack("ii", 1, 0)  # closing then sends a reset instead of an orderly end
_HANDSHAKE = frozenset({b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"READONLY", b"PING", b"COMMAND", b"CLUSTER", b"ROLE"})


@dataclass(slots=True)
class Counters:
    """What has gone through the proxy since it was made."""

    connections: int = 0
    requests: int = 0
    bytes_to_server: int = 0
    bytes_to_client: int = 0
    dropped: int = 0


@dataclass(slots=True)
class Faults:
    """What is to go wrong; owned by the proxy's event loop."""

    open: asyncio.Event = field(default_factory=asyncio.Event)
    drops: int = 0
    drop_command: bytes | None = None
    delay_seconds: float = 0.0
    budget: int | None = None

    def wants_to_drop(self, command: bytes) -> bool:
        """Take one drop if this command is meant; None means any that is not part of a client's handshake."""
        meant = command == self.drop_command if self.drop_command else command not in _HANDSHAKE
        if not (self.drops and meant):
            return False
        self.drops -= 1
        return True

    def spend(self, size: int) -> int:
        """How many of `size` bytes may still pass to a client."""
        if self.budget is None:
            return size
        allowed = min(size, self.budget)
        self.budget -= allowed
        return allowed


class Link:
    """One client connection and its connection to the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter, faults: Faults, counters: Counters):
        self._client = client
        self._server = server
        self._faults = faults
        self._counters = counters
        self._requests = hiredis.Reader()
        self._replies = hiredis.Reader()
        self._asked = 0
        self._answered = 0
        self._lose: int | None = None  # the number of the request whose reply ends this connection

    async def run(self, client: asyncio.StreamReader, server: asyncio.StreamReader) -> None:
        """Forward until either side ends, then end both."""
        pumps = [asyncio.create_task(self._to_server(client)), asyncio.create_task(self._to_client(server))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.close()

    def close(self) -> None:
        """Close both connections; what is still buffered for the client is sent first."""
        self._client.close()
        self._server.close()

    def abort(self) -> None:
        """Reset both connections at once."""
        self._client.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._client.transport.abort()
        self._server.transport.abort()

    def end_replies(self) -> None:
        """Tell the client that no more replies will come, and keep the connection open."""
        if self._client.can_write_eof():
            self._client.write_eof()

    async def _to_server(self, source: asyncio.StreamReader) -> None:
        while chunk := await source.read(_CHUNK):
            await self._faults.open.wait()
            self._note_requests(chunk)
            self._counters.bytes_to_server += len(chunk)
            self._server.write(chunk)
            await self._server.drain()

    async def _to_client(self, source: asyncio.StreamReader) -> None:
        while chunk := await source.read(_CHUNK):
            await self._faults.open.wait()
            await asyncio.sleep(self._faults.delay_seconds)
            self._note_replies(chunk)
            if self._lose is not None:
                if self._answered >= self._lose:
                    self._counters.dropped += 1
                    return
                continue  # earlier replies of the same pipeline are lost with it
            if not await self._forward(chunk):
                return

    async def _forward(self, chunk: bytes) -> bool:
        allowed = self._faults.spend(len(chunk))
        self._counters.bytes_to_client += allowed  # before the client can have them, so that it may look
        if not self._client.is_closing():
            self._client.write(chunk[:allowed])
            await self._client.drain()
        return allowed == len(chunk)

    def _note_requests(self, chunk: bytes) -> None:
        self._requests.feed(chunk)
        while (request := self._requests.gets()) is not False:
            self._asked += 1
            self._counters.requests += 1
            name = bytes(request[0]).upper() if isinstance(request, list) and request else b""
            if self._lose is None and self._faults.wants_to_drop(name):
                self._lose = self._asked

    def _note_replies(self, chunk: bytes) -> None:
        self._replies.feed(chunk)
        while (reply := self._replies.gets()) is not False:
            if not isinstance(reply, hiredis.PushNotification):
                self._answered += 1
