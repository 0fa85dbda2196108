"""Packing, batching and reading: bytes that leave and replies that come."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
import redis.asyncio.connection
import redis.connection

from lukhas_redis.calls import Command
from lukhas_redis.transport.batching import BATCH_BYTES, BATCH_COMMANDS, batches
from lukhas_redis.transport.steps import Exchange, Lost, Node, NotSent, ServerReply
from lukhas_redis.transport.wire import INCOMPLETE, Replies, connected_socket, connected_transport, pack

A, B = Node("a", 1), Node("b", 2)
LARGE = bytes(range(256)) * 1024


@pytest.mark.parametrize(
    "commands",
    [
        [("GET", "k")],
        [("SET", "k", b"\r\n\x00", "EX", 60), ("EVALSHA", "sha", 1, "ключ", -5)],
        [("SET", "k", LARGE, "EX", 60), ("PING",), ("SET", b"k2", LARGE)],
        [("SET", "", b"")],
    ],
)
def test_packed_commands_are_what_the_server_reads(commands: list[Command]) -> None:
    """Whatever the pieces, their bytes are the commands in the protocol's form."""
    reader = hiredis.Reader()
    reader.feed(b"".join(pack(commands)))
    for command in commands:
        words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
        assert reader.gets() == words
    assert reader.gets() is False


def test_large_arguments_are_not_copied() -> None:
    """A large payload travels as the object it is."""
    assert any(piece is LARGE for piece in pack([("SET", "k", LARGE), ("PING",)]))


def test_error_replies_are_values_also_inside_others() -> None:
    """An error reply is handed over with its whole message, not raised; half a reply is not yet one."""
    replies = Replies()
    replies.feed(b"+OK\r\n-LKFULL used=1\r\n*2\r\n:1\r\n-NOSCRIPT x\r\n$5\r\nhal")
    assert replies.take() == b"OK"
    refusal = replies.take()
    assert (type(refusal), str(refusal)) == (ServerReply, "LKFULL used=1")
    number, inner = replies.take()
    assert (number, str(inner)) == (1, "NOSCRIPT x")
    assert replies.take() is INCOMPLETE
    replies.feed(b"fs\r\n")
    assert replies.take() == b"halfs"


def test_what_redis_py_connected_can_be_taken_over() -> None:
    """redis-py has no public name for its sockets; an upgrade that renames them fails here and not in production."""
    with pytest.raises(OSError, match="without a socket"):
        connected_socket(_unconnected(redis.connection))
    with pytest.raises(OSError, match="without a transport"):
        connected_transport(_unconnected(redis.asyncio.connection))


def _unconnected(library: Any) -> Any:
    return library.Connection()


def exchange(node: Node, count: int = 1, size: int = 0, *, own: bool = False) -> Exchange:
    """An exchange of `count` commands, `size` bytes in the first."""
    more: list[Command] = [("PING",)] * (count - 1)
    commands: list[Command] = [("PING", bytes(size)), *more]
    return Exchange(node, commands, 5.0, own)


def test_exchanges_share_a_pipeline_by_node() -> None:
    """One pipeline per node, in the order asked for, whoever wants a connection for himself."""
    made = batches([exchange(A), exchange(B), exchange(A, own=True), exchange(A)])
    assert [(batch.node, batch.places) for batch in made] == [(A, [0, 2, 3]), (B, [1])]


def test_a_large_exchange_is_not_overtaken() -> None:
    """What comes behind a large exchange waits for it: the pipelines of a node are used one after the other."""
    made = batches([exchange(A), exchange(A, size=BATCH_BYTES, own=True), exchange(A)])
    assert [batch.places for batch in made] == [[0], [1], [2]]


def test_a_pipeline_is_bounded() -> None:
    """A pipeline ends at its number of commands or bytes; one large exchange stands alone."""
    assert [len(b.places) for b in batches([exchange(A)] * (BATCH_COMMANDS + 1))] == [BATCH_COMMANDS, 1]
    half = BATCH_BYTES // 2 + 1
    assert [b.places for b in batches([exchange(A, size=half), exchange(A, size=half), exchange(A)])] == [[0], [1, 2]]


def test_replies_are_shared_out_in_order() -> None:
    """Each exchange gets as many replies as it has commands."""
    (batch,) = batches([exchange(A, 2), exchange(A, 1), exchange(A, 3)])
    assert dict(batch.share([1, 2, 3, 4, 5, 6])) == {0: [1, 2], 1: [3], 2: [4, 5, 6]}


def test_replies_that_came_before_a_break_are_kept() -> None:
    """A broken pipeline is lost only for exchanges whose replies did not all come."""
    (batch,) = batches([exchange(A, 2), exchange(A, 2), exchange(A, 1)])
    parts = dict(batch.share(Lost("reset", [1, 2, 3])))
    assert parts[0] == [1, 2]
    assert isinstance(parts[1], Lost)
    assert isinstance(parts[2], Lost)


def test_nothing_sent_is_nothing_for_everybody() -> None:
    """A pipeline that did not leave was not sent for any of its exchanges."""
    (batch,) = batches([exchange(A), exchange(A)])
    assert all(isinstance(part, NotSent) for _, part in batch.share(NotSent("refused")))
