"""Sentinel and Cluster while they change: failovers, half migrated slots, moved slots.

What belongs here: that calls find the right server, with one effect each. What does not: single servers.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError
from redis.sentinel import Sentinel

from lukhas_redis.errors import ServerUnsuitable, Unavailable
from lukhas_redis.settings import Settings
from lukhas_redis.testing import Cluster, RunningServer, SentinelGroup, wait_until
from lukhas_redis.transport import AsyncTransport
from lukhas_redis.transport.routes import slot_of
from tests.unit.transport.scripts_for_tests import (
    LOOK,
    asking,
    asking_all,
    count_call,
    counter_key,
    read,
    simple_call,
    snapshot,
    take_call,
)
from tests.unit.transport.shells import Shell, on_both_shells

pytestmark = [pytest.mark.faults, on_both_shells]


def test_sentinel_names_the_primary(shell: type[Shell], sentinels: SentinelGroup, tenant: str) -> None:
    """A Sentinel URL leads to the primary, and one made by a redis-py client does as well."""
    sentinel_class: Any = Sentinel
    client = sentinel_class([(s.host, s.port) for s in sentinels.sentinels]).master_for(sentinels.name)
    for number, target in enumerate((sentinels.url, client), 1):
        with shell(target) as used:
            found = used.ready()
            assert found is not None
            assert found.mode == "sentinel"
            assert used.run(asking(count_call(tenant, f"id{number}"))) == number


def test_calls_go_on_when_the_primary_is_killed(shell: type[Shell], sentinels: SentinelGroup, tenant: str) -> None:
    """While Sentinel fails over, calls are retried and end with one effect each on the new primary."""
    with shell(sentinels.url, call_timeout_seconds=30.0) as used:
        assert used.run(asking(count_call(tenant, "before", durability="memory"))) == 1
        old = sentinels.kill_primary()
        replies = used.together(asking(count_call(tenant, f"id{n}")) for n in range(10))
        new = sentinels.wait_failover(old)
        assert sorted(replies) == sorted(set(replies))
        assert new.admin.get(counter_key(tenant)) == str(max(replies)).encode()


def test_a_demoted_primary_is_left(shell: type[Shell], sentinels: SentinelGroup, tenant: str) -> None:
    """After a planned failover the old primary still answers; calls reach the new one all the same."""
    with shell(sentinels.url, call_timeout_seconds=20.0) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        old = sentinels.primary()
        # What no replica has yet may be lost at level memory; that is not what this test is about.
        wait_until(
            lambda: all(replica.admin.get(counter_key(tenant)) == b"1" for replica in sentinels.replicas()),
            what="the replicas to follow",
        )
        wait_until(lambda: _failover_begun(sentinels), timeout=60, what="a failover")
        sentinels.wait_failover(old)
        wait_until(lambda: _is_replica(old), what="the demotion")
        assert used.run(asking(count_call(tenant, "b"))) == 2
        assert sentinels.primary().admin.get(counter_key(tenant)) == b"2"


def _is_replica(server: RunningServer) -> bool:
    """Sentinel cuts everybody off when it demotes a server."""
    try:
        return bool(server.info("replication")["role"] == "slave")
    except Disconnected:
        return False


def _failover_begun(sentinels: SentinelGroup) -> bool:
    """Sentinel refuses a second failover soon after the first."""
    try:
        sentinels.sentinels[0].command("SENTINEL", "FAILOVER", sentinels.name)
    except ResponseError as error:
        if str(error).startswith("INPROG"):
            return False
        raise
    return True


def test_an_unknown_service_is_unavailable(shell: type[Shell], sentinels: SentinelGroup, tenant: str) -> None:
    """A service that no sentinel knows is unavailable, and the message says which."""
    url = sentinels.url.replace(f"/{sentinels.name}", "/nobody")
    with shell(url, call_timeout_seconds=1.0) as used, pytest.raises(Unavailable, match="nobody"):
        used.run(asking(count_call(tenant, "a")))


@pytest.mark.parametrize("kind", ["primary", "replica"])
def test_a_cluster_is_found_from_one_node(shell: type[Shell], cluster: Cluster, tenant: str, kind: str) -> None:
    """One node's address is enough, a replica's too: every tag's calls go to its owner, many tags at once as well."""
    primary = cluster.primaries()[0]
    node = primary if kind == "primary" else cluster.replicas_of(primary)[0]
    with shell(f"redis+cluster://{node.host}:{node.port}") as used:
        found = used.ready()
        assert found is not None
        assert found.mode == "cluster"
        calls = [count_call(f"{tenant}-{n}", "a") for n in range(30)]
        assert used.run(asking_all(*calls)) == [1] * 30


def test_a_redis_py_cluster_client_is_accepted(shell: type[Shell], cluster: Cluster, tenant: str) -> None:
    """A RedisCluster client lends its nodes and credentials."""
    client = cluster.client()
    with shell(client) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
    client.close()


def test_a_plain_url_to_a_cluster_node_is_unsuitable(shell: type[Shell], cluster: Cluster, tenant: str) -> None:
    """redis:// to a node of a cluster is refused with the URL to use instead."""
    with shell(cluster.nodes[0].url) as used, pytest.raises(ServerUnsuitable, match=r"redis\+cluster://"):
        used.run(asking(count_call(tenant, "a")))


def test_a_half_migrated_slot_is_success_or_nothing(shell: type[Shell], cluster: Cluster, tenant: str) -> None:
    """Fifty calls on a slot whose keys are split: each succeeds or was surely not applied; all succeed afterwards."""
    slot = slot_of(tenant)
    with shell(cluster.url, call_timeout_seconds=2.0) as used:
        for number in range(20):
            used.run(asking(count_call(tenant, f"before{number}")))
        cluster.begin_migration(slot)
        during = used.together(asking(count_call(tenant, f"id{number}")) for number in range(50))
        assert [reply for reply in during if not isinstance(reply, int | Unavailable)] == []
        cluster.finish_migration(slot)
        after = used.together(asking(count_call(tenant, f"id{number}")) for number in range(50))
        assert sorted(after) == list(range(21, 71))
        kept = [(first, again) for first, again in zip(during, after, strict=True) if isinstance(first, int)]
        assert all(first == again for first, again in kept)


def test_keys_that_are_already_moved_are_asked_for(shell: type[Shell], cluster: Cluster, tenant: str) -> None:
    """With every key already on the slot's next node, calls, staged calls, reads and snapshots follow ASK."""
    slot = slot_of(tenant)
    with shell(cluster.url) as used:
        used.run(asking(count_call(tenant, "a")))
        cluster.begin_migration(slot, share=1.0)
        assert used.run(asking(simple_call(LOOK, tenant))) == 1
        assert used.run(asking(snapshot(tenant))) == [1, b"1"]
        assert used.run(asking(read(tenant, "GET", counter_key(tenant)))) == b"1"
        assert used.together(asking(simple_call(LOOK, tenant)) for _ in range(50)) == [1] * 50
        cluster.finish_migration(slot)
        assert used.run(asking(count_call(tenant, "a"))) == 1


def test_a_staged_payload_meets_a_slot_on_the_move(shell: type[Shell], cluster: Cluster, tenant: str) -> None:
    """A staged call whose slot is moving is a success or surely nothing, without a stage left; then it succeeds."""
    slot = slot_of(tenant)
    call = take_call(tenant, b"x" * 70_000)
    with shell(cluster.url, call_timeout_seconds=1.0) as used:
        used.run(asking(count_call(tenant, "a")))
        cluster.begin_migration(slot)
        # The servers answer TRYAGAIN: the stage exists on the next node, the body nowhere.
        with pytest.raises(Unavailable, match="TRYAGAIN"):
            used.run(asking(call))
        cluster.finish_migration(slot)
        assert used.run(asking(read(tenant, "EXISTS", f"t:{{{tenant}}}:body", f"t:{{{tenant}}}:stage:r"))) == 0
        assert used.run(asking(call)) == 70_000


def test_a_moved_slot_is_followed(shell: type[Shell], cluster: Cluster, tenant: str) -> None:
    """After a live move of a slot the next calls find its new owner."""
    slot = slot_of(tenant)
    with shell(cluster.url) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        cluster.move_slot(slot)
        replies = used.together(asking(count_call(tenant, f"id{n}")) for n in range(50))
        assert sorted(replies) == list(range(2, 52))


def test_calls_go_on_when_an_owner_is_killed(shell: type[Shell], cluster: Cluster, tenant: str) -> None:
    """While the cluster fails over, calls are retried and end with one effect each; other owners are not disturbed."""
    slot = slot_of(tenant)
    with shell(cluster.url, call_timeout_seconds=30.0) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        others = _tag_elsewhere(cluster, slot, tenant)
        old = cluster.kill_primary(slot)
        replies = used.together(asking(count_call(tenant, f"id{n}")) for n in range(10))
        assert sorted(replies) == sorted(set(replies))
        assert used.run(asking(count_call(others, "a"))) == 1
        new = cluster.wait_failover(slot, old)
        assert new.admin.get(counter_key(tenant)) == str(max(replies)).encode()


def _tag_elsewhere(cluster: Cluster, slot: int, tenant: str) -> str:
    owner = cluster.node_for_slot(slot)
    names = (f"{tenant}-{number}" for number in range(100))
    return next(name for name in names if cluster.node_for_slot(slot_of(name)).port != owner.port)


def test_concurrent_tasks_refresh_the_map_once(shell: type[Shell], cluster: Cluster, tenant: str) -> None:
    """A hundred tasks that find no map at once ask for it together: one CLUSTER SLOTS, not a hundred."""
    if shell.__name__ == "SyncShell":
        pytest.skip("threads start one after the other")
    before = sum(_calls_of(node, "cluster|slots") for node in cluster.nodes)
    asyncio.run(_hundred(cluster.url, tenant))
    assert sum(_calls_of(node, "cluster|slots") for node in cluster.nodes) - before <= 2


async def _hundred(url: str, tenant: str) -> None:
    async with AsyncTransport(url, Settings()) as transport:
        await asyncio.gather(*(transport.run(asking(count_call(f"{tenant}-{n}", "a"))) for n in range(100)))


def _calls_of(node: Any, command: str) -> int:
    found: dict[str, Any] = node.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})
    return int(found["calls"])
