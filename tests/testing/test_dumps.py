"""Whole-dataset dumps: what they see, what they leave out, how a difference reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import redis

from lukhas_redis.errors import InvalidArgument
from lukhas_redis.testing import Cluster, RunningServer, assert_same, difference, dump, frozen_expiry, wait_until
from tests.fix_servers import StartsServers


def _fill(client: redis.Redis, t: str) -> None:
    client.set(f"{t}:string", b"\xff\x00")
    client.set(f"{t}:empty", b"")
    client.hset(f"{t}:hash", mapping={"a": "1", "b": "2"})
    client.rpush(f"{t}:list", "x", "y")
    client.sadd(f"{t}:set", "m", "n")
    client.zadd(f"{t}:zset", {"m": 1.5, "n": 2})
    client.xadd(f"{t}:stream", {"f": "v"}, id="1-1")
    client.xadd(f"{t}:stream", {"f": "w"}, id="2-1")
    client.xgroup_create(f"{t}:stream", "g", id="0")
    client.xreadgroup("g", "worker", {f"{t}:stream": ">"}, count=1)
    client.pexpire(f"{t}:string", 3_600_000)


CHANGES: dict[str, Callable[[redis.Redis, str], Any]] = {
    "value": lambda c, t: c.append(f"{t}:string", "x"),
    "empty": lambda c, t: c.delete(f"{t}:empty"),
    "new": lambda c, t: c.set(f"{t}:new", ""),
    "field": lambda c, t: c.hset(f"{t}:hash", "b", "3"),
    "order": lambda c, t: c.lmove(f"{t}:list", f"{t}:list"),
    "member": lambda c, t: c.srem(f"{t}:set", "m"),
    "score": lambda c, t: c.zincrby(f"{t}:zset", 0.25, "m"),
    "type": lambda c, t: (c.delete(f"{t}:set"), c.rpush(f"{t}:set", "m", "n")),
    "deadline": lambda c, t: c.pexpire(f"{t}:string", 3_700_000),
    "no deadline": lambda c, t: c.persist(f"{t}:string"),
    "entry added and removed": lambda c, t: c.xdel(f"{t}:stream", c.xadd(f"{t}:stream", {"f": "v"})),
    "entry": lambda c, t: c.xdel(f"{t}:stream", "2-1"),
    "acknowledged": lambda c, t: c.xack(f"{t}:stream", "g", "1-1"),
    "delivered": lambda c, t: c.xreadgroup("g", "worker", {f"{t}:stream": ">"}),
    "claimed": lambda c, t: c.xclaim(f"{t}:stream", "g", "other", 0, ["1-1"]),
    "delivered again": lambda c, t: c.xclaim(f"{t}:stream", "g", "worker", 0, ["1-1"]),
    "consumer": lambda c, t: c.xgroup_createconsumer(f"{t}:stream", "g", "idle"),
    "group": lambda c, t: c.xgroup_create(f"{t}:stream", "h"),
    "group id": lambda c, t: c.xgroup_setid(f"{t}:stream", "g", "9-9"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_kind_of_change_is_seen(server: RunningServer, tenant: str, change: str) -> None:
    """A change of any kind makes exactly one key differ, and the message names the key."""
    client = server.client()
    _fill(client, tenant)
    before = dump(client, prefix=tenant)
    CHANGES[change](client, tenant)
    lines = difference(before, dump(client, prefix=tenant))
    assert {line.split("'")[1] for line in lines} in [{f"{tenant}:{name}"} for name in _NAMES], lines
    with pytest.raises(AssertionError, match=tenant):
        assert_same(before, dump(client, prefix=tenant))


_NAMES = ("string", "empty", "new", "hash", "list", "set", "zset", "stream")


def test_looking_changes_nothing(server: RunningServer, tenant: str) -> None:
    """Reads of every kind, and another delivery attempt that finds nothing, leave the dumps equal."""
    client = server.client()
    _fill(client, tenant)
    client.xreadgroup("g", "worker", {f"{tenant}:stream": ">"})
    before = dump(client, prefix=tenant)
    client.get(f"{tenant}:string")
    client.xreadgroup("g", "worker", {f"{tenant}:stream": ">"})
    client.xpending(f"{tenant}:stream", "g")
    assert len(before) == 7
    assert_same(before, dump(client, prefix=tenant))


@pytest.mark.parametrize("protocol", [2, 3])
def test_both_protocols_give_the_same_dump(server: RunningServer, tenant: str, protocol: int) -> None:
    """RESP2 and RESP3 clients read the same dump."""
    client = server.client()
    _fill(client, tenant)
    assert_same(dump(client, prefix=tenant), dump(server.client(protocol=protocol), prefix=tenant))


def test_a_prefix_is_taken_literally(server: RunningServer, tenant: str) -> None:
    """Glob characters in a prefix match themselves only."""
    client = server.client()
    client.mset({f"{tenant}*[a]?": "1", f"{tenant}xa1": "2"})
    assert list(dump(client, prefix=f"{tenant}*[a]?")) == [f"{tenant}*[a]?".encode()]


def test_a_cluster_is_read_from_all_primaries(cluster: Cluster, tenant: str) -> None:
    """The dump of a cluster has the keys of every node."""
    client = cluster.client()
    names = {f"{tenant}:{i}".encode() for i in range(50)}
    for name in names:
        client.set(name, "v")
    assert len({cluster.node_for_slot(cluster.slot_of(name)) for name in names}) == 3
    assert dump(client, prefix=tenant).keys() == names


def test_a_decoding_client_is_refused(server: RunningServer) -> None:
    """A client that decodes replies is refused by name of the option, before anything is read."""
    with pytest.raises(InvalidArgument, match="decode_responses"):
        dump(server.client(decode_responses=True))


def test_expired_keys_stay_uncollected_while_frozen(fresh_server: StartsServers) -> None:
    """Inside frozen_expiry an expired key still counts in DBSIZE until somebody asks for it; afterwards it goes."""
    server = fresh_server()
    client = server.admin
    with frozen_expiry(client):
        deadline = _now_ms(client) + 20
        client.set("k", "v", pxat=deadline)
        wait_until(lambda: _now_ms(client) > deadline + 300, what="several rounds of active expiry would have passed")
        assert client.dbsize() == 1
    wait_until(lambda: client.dbsize() == 0, what="active expiry collects the key")


def _now_ms(client: redis.Redis) -> int:
    seconds, microseconds = client.time()
    return int(seconds) * 1000 + int(microseconds) // 1000
