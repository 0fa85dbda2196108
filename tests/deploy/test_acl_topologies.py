"""The worker's rights behind Sentinel and in a Cluster: finding servers, redirections and half moved slots included.

What belongs here: lukhas-worker in every topology. What does not: single servers in detail (`test_acl_roles`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import cast

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.testing import Cluster, RunningServer
from tests.deploy.deployed import DEPLOY
from tests.deploy.test_acl_roles import SMALL, everything
from tests.fix_farm import External, Topology

PASSWORD = "only-for-this-test"


def rules(server: RunningServer, user: str) -> list[str]:
    """The rules of a user in the shipped file, with a password, as ACL SETUSER takes them."""
    lines = (DEPLOY / "users.acl").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.startswith(f"user lukhas-{user} ")]
    words = [f">{PASSWORD}" if word.startswith("#") else word for word in line.split()[2:]]
    return [word for word in words if word != "+client|setinfo" or not server.id.startswith("redis-7.0.")]


def data_nodes(topology: Topology) -> list[RunningServer]:
    """The servers that hold data, without sentinels."""
    if isinstance(topology.handle, External):
        pytest.skip("this server's users are not ours to change")
    return topology.handle.nodes if not isinstance(topology.handle, RunningServer) else [topology.handle]


@pytest.fixture
def as_worker(topology: Topology) -> Generator[str]:
    """The topology's URL with the user lukhas-worker, which exists on every data node during the test."""
    nodes = data_nodes(topology)
    for node in nodes:
        node.command("ACL", "SETUSER", "lukhas-worker", "reset", *rules(node, "worker"))
        node.command("ACL", "LOG", "RESET")
    yield topology.url.replace("://", f"://lukhas-worker:{PASSWORD}@", 1)
    denied = [entry for node in nodes for entry in node.admin.acl_log() if entry["username"] == "lukhas-worker"]
    for node in nodes:
        node.command("ACL", "DELUSER", "lukhas-worker")
    assert denied == []


def test_worker_can_do_everything_everywhere(as_worker: str, topology: Topology, tenant: str) -> None:
    """As lukhas-worker every operation works in every topology, and nothing is refused on the way."""
    with ContextStore.connect(as_worker, tenant=tenant) as store:
        everything(store)
        assert store.check().sound


def test_worker_follows_a_slot_that_moves(as_worker: str, topology: Topology, tenant: str) -> None:
    """While a slot is half moved, and after it has moved, lukhas-worker has the rights to follow it."""
    if topology.kind != "cluster":
        pytest.skip("slots move in clusters only")
    cluster = cast(Cluster, topology.handle)
    slot = cluster.slot_of(f"lukhas:{{{tenant}}}:index")
    with ContextStore.connect(as_worker, tenant=tenant) as store:
        kept = store.preserve("s", SMALL)
        store.set_flag("max_entries", "7")
        cluster.begin_migration(slot, share=1.0)
        # One key, so the answer is ASK and not TRYAGAIN: followed with ASKING.
        assert store.flags() == {"max_entries": "7"}
        cluster.finish_migration(slot)
        assert store.restore(kept.context_id).data == SMALL
