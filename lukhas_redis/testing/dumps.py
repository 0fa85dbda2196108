"""The whole dataset as plain data, for comparing before and after.

What belongs here: reading everything an operation could change, and showing a difference. What does not: freezing the
server (see `frozen_expiry`) or stopping other clients: whoever compares sees to that. Invariant: two dumps are equal
exactly if no key, content, order, deadline, stream id, group, consumer or pending entry differs. Idle times and access
times are left out: reading moves them. (`DEBUG DIGEST` sees neither deadlines nor groups nor pending entries.)
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any, TypeAlias

import redis
from redis.cluster import RedisCluster

from lukhas_redis.errors import InvalidArgument

_BATCH = 200
_SHOWN = 40  # differing keys in a message
_GLOB = str.maketrans({char: f"\\{char}" for char in "*?[]^\\"})


@dataclass(frozen=True, slots=True)
class KeyDump:
    """One key: its type, its absolute deadline (Unix ms, None for none) and its content in a fixed order."""

    type: str
    deadline_ms: int | None
    content: Any


Dump: TypeAlias = dict[bytes, KeyDump]


def dump(client: redis.Redis | RedisCluster, *, prefix: str = "") -> Dump:
    """Read every key that starts with `prefix`; of a cluster, from all primaries.

    The client must not decode replies. A key that expires while it is read is left out.

    Raises:
        InvalidArgument: the client decodes replies; nothing was read.
    """
    found: Dump = {}
    for node in _nodes(client):
        if node.get_encoder().decode_responses:
            raise InvalidArgument("dump() needs a client with decode_responses=False: keys and values are bytes")
        pattern = prefix.translate(_GLOB) + "*"
        names = node.scan_iter(match=pattern, count=1000)
        while keys := list(islice(names, _BATCH)):
            found.update(_read(node, list(dict.fromkeys(keys))))
    return found


def assert_same(before: Mapping[bytes, KeyDump], after: Mapping[bytes, KeyDump]) -> None:
    """Fail with a readable list of what was added, removed and changed.

    Raises:
        AssertionError: the dumps differ.
    """
    lines = difference(before, after)
    if lines:
        more = [f"... and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        raise AssertionError("\n".join([f"{len(lines)} differences:", *lines[:_SHOWN], *more]))


def difference(before: Mapping[bytes, KeyDump], after: Mapping[bytes, KeyDump]) -> list[str]:
    """One line for each key added (`+`) or removed (`-`), and for each field that changed (`~`)."""
    lines: list[str] = []
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old is None:
            lines.append(f"+ {key!r}: {_short(new)}")
        elif new is None:
            lines.append(f"- {key!r}: {_short(old)}")
        else:
            lines += _changes(key, old, new)
    return lines


@contextmanager
def frozen_expiry(client: redis.Redis) -> Generator[None]:
    """Switch active expiry of one node off while comparing; needs DEBUG, which test servers allow."""
    _ask(client, [("DEBUG", "SET-ACTIVE-EXPIRE", 0)])
    try:
        yield
    finally:
        _ask(client, [("DEBUG", "SET-ACTIVE-EXPIRE", 1)])


def _nodes(client: redis.Redis | RedisCluster) -> list[redis.Redis]:
    if isinstance(client, RedisCluster):
        primaries = client.get_primaries()  # type: ignore[no-untyped-call]
        return [client.get_redis_connection(node) for node in primaries]
    return [client]


def _read(node: redis.Redis, keys: list[bytes]) -> Dump:
    facts = _ask(node, [command for key in keys for command in (("TYPE", key), ("PEXPIRETIME", key))])
    kinds = {key: (_text(facts[2 * i]), facts[2 * i + 1]) for i, key in enumerate(keys)}
    present = [key for key in keys if kinds[key][0] != "none"]
    contents = _ask(node, [_READERS[kinds[key][0]][0](key) for key in present])
    found: Dump = {}
    for key, content in zip(present, contents, strict=True):
        kind, deadline = kinds[key]
        if content or content == b"":  # gone meanwhile: None or an empty container, which no server stores
            found[key] = KeyDump(kind, deadline if deadline >= 0 else None, _READERS[kind][1](content))
    return found


def _ask(node: redis.Redis, commands: list[tuple[Any, ...]]) -> list[Any]:
    # A bare connection: redis-py's clients reshape replies, differently for each protocol version.
    pool: Any = node.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_packed_command(connection.pack_commands(commands))
        return [_reply(connection) for _ in commands]
    finally:
        pool.release(connection)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response(disable_decoding=True)
    except redis.ResponseError as error:
        if str(error).startswith(("WRONGTYPE", "no such key")):  # replaced or gone since its type was asked
            return None
        raise


def _stream(reply: Any) -> dict[str, Any]:
    facts = _mapping(reply)
    return {
        "last-generated-id": facts["last-generated-id"],
        "entries-added": facts.get("entries-added"),
        "max-deleted-entry-id": facts.get("max-deleted-entry-id"),
        "entries": [(entry[0], tuple(entry[1])) for entry in facts["entries"]],
        "groups": {group["name"]: group for group in map(_group, facts["groups"])},
    }


def _group(reply: Any) -> dict[str, Any]:
    facts = _mapping(reply)
    return {
        "name": facts["name"],
        "last-delivered-id": facts["last-delivered-id"],
        "entries-read": facts.get("entries-read"),
        # id, consumer, (delivery time left out), delivery count
        "pending": [(entry[0], entry[1], entry[3]) for entry in facts["pending"]],
        "consumers": sorted(_mapping(consumer)["name"] for consumer in facts["consumers"]),
    }


def _mapping(reply: Any) -> dict[str, Any]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {_text(name): value for name, value in pairs}


def _sorted_pairs(reply: Any) -> list[tuple[Any, Any]]:
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return sorted(pairs)


def _scored(reply: Any) -> list[tuple[Any, float]]:
    nested = reply and isinstance(reply[0], list | tuple)
    pairs = reply if nested else zip(reply[::2], reply[1::2], strict=True)
    return [(member, float(score)) for member, score in pairs]


_READERS: dict[str, tuple[Callable[[bytes], tuple[Any, ...]], Callable[[Any], Any]]] = {
    "string": (lambda key: ("GET", key), lambda reply: reply),
    "list": (lambda key: ("LRANGE", key, 0, -1), list),
    "set": (lambda key: ("SMEMBERS", key), sorted),
    "hash": (lambda key: ("HGETALL", key), _sorted_pairs),
    "zset": (lambda key: ("ZRANGE", key, 0, -1, "WITHSCORES"), _scored),
    "stream": (lambda key: ("XINFO", "STREAM", key, "FULL", "COUNT", 0), _stream),
}


def _changes(key: bytes, old: KeyDump, new: KeyDump) -> list[str]:
    return [
        f"~ {key!r} {field.name}: {_short(getattr(old, field.name))} -> {_short(getattr(new, field.name))}"
        for field in fields(KeyDump)
        if getattr(old, field.name) != getattr(new, field.name)
    ]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} ... {text[-80:]} ({len(text)} characters)"
