"""Sentinel groups and clusters: formed, hurt, healed."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis.sentinel import Sentinel

from lukhas_redis.testing import Cluster, RunningServer, SentinelGroup
from tests.fix_tenants import new_tenant

pytestmark = pytest.mark.faults


def test_sentinels_lead_clients_to_the_primary(sentinels: SentinelGroup) -> None:
    """redis-py's Sentinel client, given the addresses of the URL, finds the server that the group calls primary."""
    hosts, _, name = sentinels.url.removeprefix("redis+sentinel://").partition("/")
    addresses = [(host, int(port)) for host, port in (pair.split(":") for pair in hosts.split(","))]
    client: Any = Sentinel(addresses)  # type: ignore[no-untyped-call]
    primary = sentinels.primary()
    assert client.discover_master(name) == (primary.host, primary.port)
    assert len(sentinels.replicas()) == 2
    for each in client.sentinels:
        each.close()


def test_sentinels_promote_a_replica_and_take_the_old_primary_back(sentinels: SentinelGroup, tenant: str) -> None:
    """After kill -9 of the primary another one is promoted with the data; healed, the old one follows it."""
    sentinels.primary().client().set(tenant, "v")
    sentinels.primary().command("WAIT", 2, 5000)
    old = sentinels.kill_primary()
    new = sentinels.wait_failover(old)
    assert new is not old
    assert new.admin.get(tenant) == b"v"
    assert not old.alive
    sentinels.heal()
    assert (sentinels.primary(), old.info("replication")["role"]) == (new, "slave")


def test_a_cluster_serves_every_slot_and_each_primary_has_its_replica(cluster: Cluster, tenant: str) -> None:
    """Keys of many slots can be written through a plain client; 3 primaries have a replica each."""
    client = cluster.client()
    for i in range(100):
        client.set(f"{tenant}{i}", i)
    assert len(cluster.primaries()) == 3
    assert [len(cluster.replicas_of(primary)) for primary in cluster.primaries()] == [1, 1, 1]
    assert {cluster.node_for_slot(slot) for slot in (0, 8000, 16383)} == set(cluster.primaries())


def test_a_cluster_replaces_a_killed_primary(cluster: Cluster, tenant: str) -> None:
    """After kill -9 the replica owns the slots with the data; healed, the old primary is its replica."""
    slot = cluster.slot_of(tenant)
    owner = cluster.node_for_slot(slot)
    owner.admin.set(tenant, "v")
    owner.command("WAIT", 1, 5000)
    assert cluster.kill_primary(slot) is owner
    new = cluster.wait_failover(slot, owner)
    assert new.admin.get(tenant) == b"v"
    cluster.heal()
    assert cluster.replicas_of(new) == [owner]


def _filled_slot(cluster: Cluster) -> tuple[int, list[bytes]]:
    tag = new_tenant()
    slot = cluster.slot_of(tag)
    keys = [f"{{{tag}}}{i}".encode() for i in range(250)]
    for key in keys:
        cluster.node_for_slot(slot).admin.set(key, key)
    return slot, keys


def _ask(server: RunningServer, key: bytes) -> str:
    try:
        return str(server.admin.get(key))
    except redis.RedisError as error:
        return type(error).__name__


def test_a_half_migrated_slot_is_half_here_and_half_there(cluster: Cluster, tenant: str) -> None:
    """begin_migration leaves the moved keys answering ASK and the others in place; finish_migration brings all over."""
    slot, keys = _filled_slot(cluster)
    source = cluster.node_for_slot(slot)
    moved = cluster.begin_migration(slot)
    assert len(moved) == len(keys) // 2
    assert {key for key in keys if _ask(source, key) == "AskError"} == set(moved)
    target = cluster.finish_migration(slot)
    assert cluster.node_for_slot(slot) is target is not source
    assert [target.admin.get(key) for key in keys] == keys
    assert _ask(source, keys[0]) == "MovedError"
    cluster.move_slot(slot, source)
    assert source.admin.delete(*keys) == len(keys)


def test_a_migration_left_half_way_is_healed_even_after_its_source_died(cluster: Cluster, tenant: str) -> None:
    """When the source of a half migrated slot is killed, heal() ends with one owner and no key lost."""
    slot, keys = _filled_slot(cluster)
    source = cluster.node_for_slot(slot)
    source.command("WAIT", 1, 5000)
    target = next(server for server in cluster.primaries() if server is not source)
    cluster.begin_migration(slot, target)
    source.command("WAIT", 1, 5000)
    source.kill9()
    cluster.wait_failover(slot, source)
    cluster.heal()
    assert cluster.node_for_slot(slot) is target
    assert [target.admin.get(key) for key in keys] == keys
    assert target.admin.delete(*keys) == len(keys)
