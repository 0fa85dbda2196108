"""The fixtures themselves: names are unique, servers are healed, nothing is left, and foreign servers are not hurt."""

from __future__ import annotations

from pathlib import Path

import pytest

from lukhas_redis.testing import RunningServer
from tests import fix_farm
from tests.fix_farm import External, Farm, Topology, start_container
from tests.fix_tenants import new_tenant

pytestmark = pytest.mark.faults


def test_a_tenants_keys_are_forgotten_everywhere_and_no_others(topology: Topology, farm: Farm, tenant: str) -> None:
    """forget() deletes every key with the tenant in its name, on whatever topology, and leaves a neighbour's."""
    client = topology.client()
    mine, other = f"lukhas:{{{tenant}}}:x", f"lukhas:{{{new_tenant()}}}:x"
    client.set(mine, 1)
    client.set(other, 1)
    farm.forget(tenant)
    assert (client.exists(mine), client.delete(other)) == (0, 1)


@pytest.mark.parametrize("hurt", ["kill9", "stop", "pause"])
def test_a_hurt_server_is_healed(server: RunningServer, farm: Farm, hurt: str) -> None:
    """A shared server that a test has killed, stopped or paused answers again after heal(), under the same address."""
    url = server.url
    getattr(server, hurt)()
    farm.heal()
    assert server.url == url
    assert server.client().ping()


def test_a_topology_says_what_it_is(topology: Topology) -> None:
    """Kind, flavor and id fit, and the URL has the scheme of its kind."""
    scheme = {"single": "redis://", "sentinel": "redis+sentinel://", "cluster": "redis+cluster://"}[topology.kind]
    assert topology.url.startswith(scheme)
    assert topology.id == f"{topology.flavor}-{topology.version}-{topology.kind}"


def test_a_given_server_is_used_but_never_hurt(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, tenant: str
) -> None:
    """LUKHAS_TEST_REDIS_URL comes first among the sources, works like ours, and what would hurt it skips the test."""
    monkeypatch.setenv("LUKHAS_TEST_REDIS_URL", server.url)
    given = fix_farm.sources()[0]
    assert isinstance(given, External)
    assert (given.url, given.flavor, given.version) == (server.url, server.flavor, server.version)
    assert (given.host, given.port) == (server.host, server.port)
    for name in ("kill9", "stop", "restart", "pause", "config_set"):
        with pytest.raises(pytest.skip.Exception, match="not ours"):
            getattr(given, name)


def test_without_programs_and_containers_the_reason_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The last resort skips: no engine on PATH, an engine that does not run, or no testcontainers, each by name."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="no container engine"):
        start_container()
    engine = tmp_path / "podman"
    engine.write_text("#!/bin/sh\necho 'no daemon here' >&2; exit 1\n")
    engine.chmod(0o700)
    with pytest.raises(pytest.skip.Exception, match="no daemon here"):
        start_container()
    engine.write_text("#!/bin/sh\nexit 0\n")
    monkeypatch.setattr(fix_farm, "find_spec", lambda name: None)
    with pytest.raises(pytest.skip.Exception, match="testcontainers"):
        start_container()
