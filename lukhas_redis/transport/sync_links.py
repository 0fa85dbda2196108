"""Connections of the synchronous shell: one exchange at a time on each, many threads on many.

What belongs here: opening, lending, using and closing sockets. What does not: retries, or meaning of replies.
Invariant: a connection that goes back among the idle ones owes nobody a reply.
"""

from __future__ import annotations

import ssl
import threading
from collections import deque
from time import monotonic
from typing import Any

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.retry import Retry

from lukhas_redis.transport.dialing import Plan, unconnected
from lukhas_redis.transport.steps import Lost, Node, NotSent, Outcome
from lukhas_redis.transport.wire import INCOMPLETE, Replies, connected_socket, end_detector

_READ_BYTES = 65_536
# Deadlines shrink by microseconds from call to call; a system call to follow them exactly is not worth it.
_SLACK_SECONDS = 0.05


class Link:
    """One open connection."""

    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection
        self._socket = connected_socket(connection)
        self._timeout = self._longest = timeout
        self._socket.settimeout(timeout)
        self._replies = Replies()
        # Whether the server has closed it while it was idle.
        self.stale = end_detector(self._socket.fileno(), encrypted=isinstance(self._socket, ssl.SSLSocket))

    def exchange(self, pieces: list[bytes], count: int, seconds: float) -> Outcome:
        """Send `pieces` and collect `count` replies within `seconds`."""
        seconds = min(seconds, self._longest)
        if abs(seconds - self._timeout) > _SLACK_SECONDS:
            self._timeout = max(seconds, 0.001)
            self._socket.settimeout(self._timeout)
        refused = self._send(pieces)
        if refused is not None:
            return refused
        collected: list[Any] = []
        try:
            self._collect(count, collected)
        except TimeoutError:
            return Lost(f"no reply within {self._timeout:.3g} s", collected)
        except (OSError, hiredis.ProtocolError) as error:
            return Lost(f"the connection broke while replies were due: {error}", collected)
        return collected

    def _send(self, pieces: list[bytes]) -> NotSent | Lost | None:
        written = False
        try:
            for piece in pieces:
                # A plain socket that raises has taken nothing of this piece.
                sent = self._socket.send(piece)
                written = True
                if sent < len(piece):
                    self._socket.sendall(memoryview(piece)[sent:])
        except OSError as error:
            if written or isinstance(self._socket, ssl.SSLSocket):
                return Lost(f"the connection broke while commands were sent: {error}")
            return NotSent(f"the connection was broken: {error}")
        return None

    def _collect(self, count: int, collected: list[Any]) -> None:
        replies, receive = self._replies, self._socket.recv
        while len(collected) < count:
            reply = replies.take()
            if reply is not INCOMPLETE:
                collected.append(reply)
                continue
            data = receive(_READ_BYTES)
            if not data:
                raise ConnectionResetError("closed by the server")
            replies.feed(data)

    def close(self) -> None:
        """Close the socket."""
        self._connection.disconnect()


class NodeLinks:
    """The connections to one server, at most `limit` at a time."""

    def __init__(self, node: Node, plan: Plan) -> None:
        self.node = node
        self._plan = plan
        self._idle: deque[Link] = deque()
        self._open = 0
        self._waiting = 0
        self._changed = threading.Condition()
        self._retired = False

    def take(self) -> Link | None:
        """An idle connection that is still open, or None."""
        while True:
            try:
                link = self._idle.pop()
            except IndexError:
                return None
            if not link.stale():
                return link
            self.discard(link)

    def reserve(self, until: float) -> Link | NotSent | None:
        """Wait for an idle connection, or for the right to open one (None)."""
        with self._changed:
            self._waiting += 1
            try:
                while True:
                    link = self.take()
                    if link is not None:
                        return link
                    if self._open < self._plan.max_connections:
                        self._open += 1
                        return None
                    if not self._changed.wait(max(0.0, until - monotonic())):
                        return NotSent(f"all {self._plan.max_connections} connections are in use")
            finally:
                self._waiting -= 1

    def dial(self, until: float) -> Link | NotSent:
        """Open a connection; `reserve` gave the right to, and `forfeit` must follow when none was opened."""
        connection = self._made(max(0.001, min(self._plan.connect_seconds, until - monotonic())))
        try:
            connection.connect()
            return Link(connection, self._plan.reply_seconds)
        except (redis.RedisError, OSError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            return unconnected(self.node, error)

    def _made(self, seconds: float) -> Any:
        kind: Any = SSLConnection if self._plan.secure(self.node) else Connection
        if self.node.path:
            kind = UnixDomainSocketConnection
        return kind(retry=Retry(NoBackoff(), 0), **self._plan.arguments(self.node, seconds))

    def give_back(self, link: Link) -> None:
        """Return a connection that owes no reply."""
        if self._retired:
            self.discard(link)
            return
        self._idle.append(link)
        if self._waiting:
            with self._changed:
                self._changed.notify()

    def discard(self, link: Link) -> None:
        """Close a connection."""
        link.close()
        self.forfeit()

    def forfeit(self) -> None:
        """Give up the right to a connection."""
        with self._changed:
            self._open -= 1
            self._changed.notify()

    def retire(self) -> None:
        """Close what is idle now and everything else when it is given back."""
        self._retired = True
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return
