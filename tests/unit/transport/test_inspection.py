"""Server checks on what servers say of themselves: versions and roles that no server on this machine has."""

from __future__ import annotations

import pytest

from lukhas_redis.errors import ServerUnsuitable
from lukhas_redis.transport.inspection import inspect
from lukhas_redis.transport.routes import ClusterRoutes, Routes, SingleRoute
from lukhas_redis.transport.steps import Node, SetbackError
from lukhas_redis.transport.world import Policy, ServerInfo, World

A = Node("a", 1)
GOOD = {"redis_version": "7.0.15", "redis_mode": "standalone", "role": "master", "maxmemory_policy": "noeviction"}


def look(routes: Routes | None = None, *, require_noeviction: bool = True, **facts: str) -> ServerInfo | None:
    """Inspect a server that says `facts`."""
    world = World(Policy(require_noeviction=require_noeviction), routes or SingleRoute(A), clock=lambda: 50.0)
    steps = inspect(A, world, 55.0)
    next(steps)
    info = "\r\n".join(f"{name}:{value}" for name, value in {**GOOD, **facts}.items()).encode()
    with pytest.raises(StopIteration):
        steps.send([b"# Server\r\n" + info, b"", b""])
    assert world.knowledge.checked(A, 49.0)
    return world.knowledge.server


def test_flavors_are_told_apart() -> None:
    """Valkey says redis_version for compatibility; its own version is reported."""
    assert look() == ServerInfo("redis", "7.0.15", "single")
    valkey = look(redis_version="7.2.4", valkey_version="8.1.0", server_mode="standalone")
    assert valkey == ServerInfo("valkey", "8.1.0", "single")
    assert look(redis_version="8.4.0") == ServerInfo("redis", "8.4.0", "single")


@pytest.mark.parametrize("version", ["6.2.14", "5.0", "", "unknown"])
def test_old_servers_are_unsuitable(version: str) -> None:
    """A server before 7.0, or one that does not say, is refused by name."""
    with pytest.raises(ServerUnsuitable, match=r"7\.0 or newer"):
        look(redis_version=version)


def test_modes_must_agree() -> None:
    """A cluster node behind a plain URL, and a lone server behind a cluster URL, are refused with the right URL."""
    with pytest.raises(ServerUnsuitable, match=r"redis\+cluster://a:1"):
        look(redis_mode="cluster")
    with pytest.raises(ServerUnsuitable, match="redis://a:1"):
        look(ClusterRoutes([A]))


def test_a_replica_in_a_cluster_passes() -> None:
    """A node that is a replica at the moment is a setback that has the map fetched again, not an error."""
    routes = ClusterRoutes([A])
    with pytest.raises(SetbackError, match="replica"):
        look(routes, redis_mode="cluster", role="slave")
    assert routes.due(10.0)


def test_eviction_may_be_accepted() -> None:
    """require_noeviction=False accepts a server that evicts."""
    with pytest.raises(ServerUnsuitable, match="noeviction"):
        look(maxmemory_policy="volatile-lru")
    assert look(require_noeviction=False, maxmemory_policy="volatile-lru")
