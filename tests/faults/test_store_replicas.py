"""Replicas that freeze or lag: what level replicated says, and what a promoted replica answers.

What belongs here: one primary and one replica. What does not: failover by Sentinel or Cluster (`test_store_failover`).
"""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.errors import ContextNotFound, DurabilityUnknown
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, wait_until
from tests.fix_servers import StartsServers

pytestmark = pytest.mark.faults

LOCAL = {"appendonly": "yes", "appendfsync": "always"}


def _pair(fresh_server: StartsServers) -> tuple[RunningServer, RunningServer]:
    primary, replica = fresh_server(config=LOCAL), fresh_server()
    replica.command("REPLICAOF", primary.host, primary.port)
    wait_until(lambda: _in_step(primary), what="a replica in step")
    return primary, replica


def _in_step(primary: RunningServer) -> bool:
    """WAIT says nothing about a connection that has not written."""
    with primary.client(single_connection_client=True) as client:
        client.set("written", 1)
        acknowledged: int = client.wait(1, 100)
    return acknowledged == 1


def _store(server: RunningServer, tenant: str, **changes: Any) -> ContextStore:
    settings = Settings(**{"wait_timeout_ms": 500, "call_timeout_seconds": 20.0, **changes})
    return ContextStore.connect(server.url, tenant=tenant, settings=settings)


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_frozen_replica_makes_the_durability_unknown_and_a_repeat_settles_it(
    fresh_server: StartsServers, tenant: str, size: int
) -> None:
    """Frozen: DurabilityUnknown, though the write is there; thawed: the same request id confirms the one effect."""
    primary, replica = _pair(fresh_server)
    with _store(primary, tenant) as store:
        data = {"x": b"a" * size}
        options: dict[str, Any] = {"durability": "replicated", "request_id": "r", "compression": "none"}
        assert store.preserve("s", {}, durability="replicated").version == 1
        replica.pause()
        for _ in range(2):
            with pytest.raises(DurabilityUnknown) as caught:
                store.preserve("s", data, **options)
            assert caught.value.fields["request_id"] == "r"
        replica.resume()
        wait_until(lambda: _in_step(primary), what="the replica to catch up")
        done = store.preserve("s", data, **options)
        assert done.version == 1
        assert store.restore(done.context_id).data == data
        assert [e.event for e in store.events()] == ["context.preserve"] * 2
        body = store._space.shard_for(done.context_id).body(done.context_id)
        assert replica.admin.exists(body) == 1


def test_every_write_can_be_confirmed(fresh_server: StartsServers, tenant: str) -> None:
    """Level replicated holds for handoff, extend, pin and drop: what they did is on the replica when they return."""
    primary, replica = _pair(fresh_server)
    with _store(primary, tenant, durability="replicated") as store:
        one = store.preserve("s", {"n": 1})
        ctx = store._space.shard_for(one.context_id).ctx(one.context_id)
        store.handoff(one.context_id, "a", "b")
        assert replica.admin.hget(ctx, "owner") == b"b"
        later = store.extend(one.context_id, 7200)
        assert int(replica.admin.hget(ctx, "expires_ms") or 0) == later.expires_ms
        store.pin(one.context_id)
        assert replica.admin.hget(ctx, "pinned") == b"1"
        store.drop(one.context_id)
        assert replica.admin.exists(ctx) == 0


def test_a_promoted_replica_that_lags_answers_whole_and_old(fresh_server: StartsServers, tenant: str) -> None:
    """Promoted with an older incarnation, a replica gives that one's data and metadata, never a mix of the two."""
    primary, replica = _pair(fresh_server)
    with _store(primary, tenant) as store:
        old = store.preserve("s", {"incarnation": "old"}, durability="replicated")
        replica.command("REPLICAOF", "NO", "ONE")  # cut off here: what follows never reaches it
        store.drop(old.context_id)
        new = store.preserve("s", {"incarnation": "new"}, context_id=old.context_id)
        only_there = store.preserve("s", {})
        assert store.restore(old.context_id).metadata.incarnation == new.incarnation != old.incarnation
        primary.kill9()
    with _store(replica, tenant) as store:
        found = store.restore(old.context_id)
        assert found.data == {"incarnation": "old"}
        assert (found.metadata.incarnation, found.metadata.checksum) == (old.incarnation, old.checksum)
        with pytest.raises(ContextNotFound):
            store.restore(only_there.context_id)
        assert store.check().sound
        assert store.preserve("s", {}, context_id=old.context_id, if_version=1).version == 2
