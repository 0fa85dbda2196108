"""Bytes out, replies in: hiredis's packer and reader, and the two places where redis-py keeps its sockets.

What belongs here: packing of commands, a reader that gives error replies as values, access to what redis-py
connected. What does not: connecting, or deciding anything about a reply.
Invariant: a reader gives exactly one value per command sent, in order; pushes of the server are dropped.
"""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any

import hiredis
import redis.asyncio.connection as aio
import redis.connection as sync

from lukhas_redis.calls import Command
from lukhas_redis.transport.steps import ServerReply

# Arguments from here on are not copied into the packed bytes.
_APART_BYTES = 65_536
INCOMPLETE = object()

# Its stub says a tuple of one; it takes any number.
_pack: Callable[[Any], bytes] = hiredis.pack_command


def pack(commands: Sequence[Command]) -> list[bytes]:
    """The bytes of commands, in pieces: large arguments stand alone, everything else is joined."""
    if len(commands) == 1 and not _has_large(commands[0]):
        return [pack_small(commands[0])]
    pieces: list[bytes] = []
    small: list[bytes] = []
    for command in commands:
        if not _has_large(command):
            small.append(pack_small(command))
            continue
        for part in _parts(command):
            if len(part) < _APART_BYTES:
                small.append(part)
            else:
                pieces += (b"".join(small), part)
                small = []
    pieces.append(b"".join(small))
    return [piece for piece in pieces if piece]


def pack_small(command: Command) -> bytes:
    """The bytes of one command without large arguments: nobody has to look for them."""
    return command if type(command) is bytes else _pack(command)


def _has_large(command: Command) -> bool:
    return type(command) is not bytes and any([type(word) is bytes and len(word) >= _APART_BYTES for word in command])  # noqa: C419 - twice as fast


def _parts(command: Command) -> list[bytes]:
    parts = [b"*%d\r\n" % len(command)]
    for word in command:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return parts


class Replies:
    """A reader of replies: feed it bytes, take complete replies off it."""

    __slots__ = ("_gets", "feed")

    def __init__(self) -> None:
        reader = hiredis.Reader(replyError=ServerReply, notEnoughData=INCOMPLETE)
        self.feed = reader.feed
        self._gets = reader.gets

    def take(self) -> Any:
        """The next reply, or `INCOMPLETE`. Raises `hiredis.ProtocolError` on bytes that are no reply."""
        reply = self._gets()
        while type(reply) is hiredis.PushNotification:
            reply = self._gets()
        return reply


def connected_socket(connection: sync.AbstractConnection) -> socket.socket:
    """The socket of a connected redis-py connection; it has no public name for it."""
    found: socket.socket | None = connection._sock  # noqa: SLF001
    if found is None:
        raise OSError("redis-py reports a connection without a socket")
    return found


def connected_transport(connection: aio.AbstractConnection) -> asyncio.Transport:
    """The transport of a connected redis-py connection; it has no public name for it."""
    writer = connection._writer  # noqa: SLF001
    if writer is None:
        raise OSError("redis-py reports a connection without a transport")
    transport: asyncio.Transport = writer.transport  # type: ignore[assignment]
    return transport


def end_detector(descriptor: int, *, encrypted: bool) -> Callable[[], bool]:
    """A function that tells whether an idle connection has ended, in under a microsecond.

    Nothing is due on an idle connection, so anything to read is its end. Under TLS bytes may come at any time, and
    some systems have no poll: there it never tells.
    """
    if encrypted or not hasattr(select, "poll"):
        return lambda: False
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    poll = poller.poll
    return lambda: bool(poll(0))


def disown(connection: aio.AbstractConnection) -> None:
    """Tell a redis-py connection that its transport was closed by us."""
    connection._writer = connection._reader = None  # noqa: SLF001
