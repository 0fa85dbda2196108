"""One connection of the asynchronous shell: many callers' exchanges in flight, answered in order.

What belongs here: writing units, handing replies to futures, timeouts, the end of a connection. What does not:
opening connections (`aio_links`), retries, or the meaning of replies.
Invariant: replies belong to units in the order these were written; a caller that went away does not disturb that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import AbstractConnection

from lukhas_redis.transport.batching import BATCH_COMMANDS
from lukhas_redis.transport.steps import Lost, NotSent, Outcome
from lukhas_redis.transport.wire import INCOMPLETE, Replies, connected_transport, disown, end_detector

# What is larger is written in parts of this size, so that other connections get their turn in between.
CHUNK_BYTES = 131_072
# Of the units of one turn of the loop this many are written together: to write costs as much as to make half of one.
TOGETHER = 8


class _Entry:
    """A unit in flight: who waits for it, how many replies are due, which came, and until when they are wanted."""

    __slots__ = ("came", "deadline", "due", "future", "since", "size")

    def __init__(self, future: asyncio.Future[Outcome], due: int, size: int, since: float, deadline: float) -> None:
        self.future = future
        self.due = due
        self.size = size
        self.since = since
        self.deadline = deadline
        self.came: list[Any] = []


class Link(asyncio.Protocol):
    """An open connection, taken over from redis-py after it has connected and authenticated."""

    def __init__(self, connection: AbstractConnection, loop: asyncio.AbstractEventLoop, timeout: float) -> None:
        self._connection = connection
        self._loop = loop
        self._timeout = timeout
        self._replies = Replies()
        self._entries: deque[_Entry] = deque()
        self._unwritten: list[bytes] = []
        self._outgoing: deque[memoryview] = deque()
        self._paused = False
        self._watch: asyncio.TimerHandle | None = None
        self.commands = 0
        self.size = 0
        self.closed = False
        # Called when half of a full pipeline has been answered; set by who keeps others waiting for that.
        self.on_room: Callable[[], None] | None = None
        # Done when the connection is closed for good.
        self.gone: asyncio.Future[None] = loop.create_future()
        self._closing = False
        self._transport = connected_transport(connection)
        # redis-py's own stream must still hear that the connection ended, or closing it would wait for that.
        self._stream = self._transport.get_protocol()
        self._transport.set_protocol(self)
        descriptor = self._transport.get_extra_info("socket").fileno()
        encrypted = self._transport.get_extra_info("ssl_object") is not None
        self._ended = end_detector(descriptor, encrypted=encrypted)
        self._transport.resume_reading()

    def alive(self) -> bool:
        """Whether an idle connection is still open: the loop may not have had a turn since the server closed it."""
        if self.closed:
            return False
        if self._ended():
            self.abort("the server closed it while it was idle")
            return False
        return True

    def submit(self, pieces: list[bytes], count: int, now: float, deadline: float) -> asyncio.Future[Outcome]:
        """Write a unit; the future is answered with its replies, or with what became of it instead.

        On an idle connection it is written at once; otherwise with everything else of this turn of the loop.
        """
        future: asyncio.Future[Outcome] = self._loop.create_future()
        if self.closed:
            future.set_result(NotSent("the connection is closed"))
            return future
        size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        deadline = min(deadline, now + self._timeout)
        idle = not self._entries
        self._entries.append(_Entry(future, count, size, now, deadline))
        self.commands += count
        self.size += size
        if self._watch is None or deadline < self._watch.when():
            self._watch_until(deadline)
        if size > CHUNK_BYTES or self._outgoing:
            self._queue(pieces)
        elif idle:
            self._write(pieces)
        else:
            if not self._unwritten:
                self._loop.call_soon(self._flush)
            self._unwritten += pieces
            if len(self._unwritten) >= TOGETHER:
                # The server works on these while more are made.
                self._flush()
        return future

    def _write(self, pieces: list[bytes]) -> None:
        if len(pieces) == 1:
            self._transport.write(pieces[0])
        else:
            self._transport.writelines(pieces)

    def _flush(self) -> None:
        pieces, self._unwritten = self._unwritten, []
        if pieces and not self.closed:
            self._transport.writelines(pieces)

    def _queue(self, pieces: list[bytes]) -> None:
        """Write a large unit, and what comes behind it, chunk by chunk: to send megabytes takes milliseconds."""
        self._flush()
        is_first = not self._outgoing
        self._outgoing.extend(map(memoryview, pieces))
        if is_first:
            self._pump()

    def _pump(self) -> None:
        """Write one chunk; the loop turns before the next, and one that is not taken up is waited for."""
        if self.closed or self._paused or not self._outgoing:
            return
        piece = self._outgoing.popleft()
        self._transport.write(piece[:CHUNK_BYTES])
        if len(piece) > CHUNK_BYTES:
            self._outgoing.appendleft(piece[CHUNK_BYTES:])
        if self._outgoing and not self._paused:
            self._loop.call_soon(self._pump)

    # -- asyncio.Protocol -------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Hand every complete reply to the unit it belongs to."""
        replies, entries = self._replies, self._entries
        try:
            replies.feed(data)
            while (reply := replies.take()) is not INCOMPLETE:
                entry = entries[0]
                entry.came.append(reply)
                if len(entry.came) == entry.due:
                    self._complete(entries.popleft())
        except (hiredis.ProtocolError, IndexError) as error:
            self.abort(f"the server sent what is no reply: {error}")
        if self.on_room is not None and self.commands <= BATCH_COMMANDS // 2:
            self.on_room()
        if self._closing and not entries:
            self.abort("the server is no longer used")

    def _complete(self, entry: _Entry) -> None:
        self.commands -= entry.due
        self.size -= entry.size
        if not entry.future.done():
            entry.future.set_result(entry.came)

    def eof_received(self) -> None:
        """The server closes: the transport closes too."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Answer everybody who still waits."""
        self._end(f"the connection broke: {exc or 'closed by the server'}")
        self._stream.connection_lost(exc)
        if not self.gone.done():
            self.gone.set_result(None)
        disown(self._connection)

    def pause_writing(self) -> None:
        """Small units are written all the same: how many are in flight is bounded by whoever submits."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on with a large unit."""
        self._paused = False
        self._pump()

    # -- timeouts and the end ---------------------------------------------------------------------------------

    def _watch_until(self, when: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(when, self._look)

    def _look(self) -> None:
        """Give up units that are late; one that waited for the whole timeout proves the connection dead."""
        self._watch = None
        now = self._loop.time()
        waiting = [entry for entry in self._entries if not entry.future.done()]
        for entry in waiting:
            if now - entry.since >= self._timeout:
                self.abort(f"no reply within {self._timeout:.3g} s")
                return
            if entry.deadline <= now:
                entry.future.set_result(Lost("no reply before the deadline"))
        # A unit whose caller is gone still proves the connection dead when its replies never come.
        times = [e.since + self._timeout if e.future.done() else e.deadline for e in self._entries]
        if times:
            self._watch_until(max(now, min(times)))

    def abort(self, reason: str) -> None:
        """Close at once; what is in flight is lost."""
        self._end(reason)
        self._transport.abort()
        # redis-py warns of connections that are dropped while it thinks them open.
        disown(self._connection)

    def close_when_idle(self) -> None:
        """Close as soon as nothing is in flight any more."""
        self._closing = True
        if not self._entries:
            self.abort("the server is no longer used")

    def _end(self, reason: str) -> None:
        self.closed = True
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self.on_room is not None:
            # Whoever waited for room here must look elsewhere.
            self._loop.call_soon(self.on_room)
        self._outgoing.clear()
        entries, self._entries = self._entries, deque()
        for entry in entries:
            if not entry.future.done():
                entry.future.set_result(Lost(reason, entry.came))
