"""A primary with replicas, watched by sentinels.

What belongs here: starting the group and following a failover. What does not: how a client finds the primary.
Invariant: when `start_sentinels` or `wait_ready` returns, every replica is in step with the primary and every sentinel
knows the primary, all replicas and all other sentinels, so a failover can start at once.
"""

from __future__ import annotations

from typing import Any

from lukhas_redis.testing.binaries import ServerBinary, default_binary
from lukhas_redis.testing.configuration import Config
from lukhas_redis.testing.group import ServerGroup, addresses
from lukhas_redis.testing.ports import HOST
from lukhas_redis.testing.servers import RunningServer, start_server
from lukhas_redis.testing.waiting import wait_until

_DOWN_AFTER_MS = 1000
_FAILOVER_TIMEOUT_MS = 3000
# Sentinels look at everything every ten seconds by default; asked to, they do so twice a second.
_QUICK = ("INFO-PERIOD", 500, "PUBLISH-PERIOD", 500, "ASK-PERIOD", 500)


class SentinelGroup(ServerGroup):
    """Sentinels and the data servers they watch."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.nodes: list[RunningServer] = []
        self.sentinels: list[RunningServer] = []

    @property
    def url(self) -> str:
        """`redis+sentinel://host:port,.../name`."""
        return f"redis+sentinel://{addresses(self.sentinels)}/{self.name}"

    def add(self, server: RunningServer, *, sentinel: bool) -> None:
        """Take a started server into the group."""
        self.servers.append(server)
        (self.sentinels if sentinel else self.nodes).append(server)

    def primary(self) -> RunningServer:
        """The server that most sentinels call the primary and that says so itself.

        Raises:
            TimeoutError: no such server within 30 seconds; a failover may be stuck.
        """
        return wait_until(self._agreed_primary, timeout=30, what=f"{self.name} has a primary")

    def replicas(self) -> list[RunningServer]:
        """The data servers that are alive and not the primary."""
        primary = self.primary()
        return [node for node in self.nodes if node is not primary and node.alive]

    def kill_primary(self) -> RunningServer:
        """Kill the primary with -9 and return it; see `wait_failover`."""
        primary = self.primary()
        primary.kill9()
        return primary

    def wait_failover(self, old: RunningServer, timeout: float = 60.0) -> RunningServer:
        """Wait until another server than `old` is the primary, and return it.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """

        def moved() -> RunningServer | None:
            primary = self._agreed_primary()
            return primary if primary is not old else None

        return wait_until(moved, timeout=timeout, what=f"{self.name} fails over from {old.port}")

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until replicas are in step and the sentinels know everybody.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """
        super().wait_ready(timeout)
        for sentinel in self.sentinels:
            sentinel.command("SENTINEL", "DEBUG", *_QUICK)
        wait_until(self._replicas_in_step, timeout=timeout, what="all replicas are in step with the primary")
        wait_until(self._sentinels_agree, timeout=timeout, what="all sentinels know the whole group")

    def heal(self) -> None:
        """Resume what is paused, start what was killed, and wait until the group serves again.

        A former primary is made a replica here: sentinels would do it too, but only after ten seconds.
        """
        self.revive()
        primary = self.primary()
        for node in self.nodes:
            if node is not primary and _role(node) == "master":
                node.command("REPLICAOF", HOST, primary.port)
        self.wait_ready()

    def _agreed_primary(self) -> RunningServer | None:
        votes = [_asked(sentinel, self.name) for sentinel in self.sentinels if _usable(sentinel)]
        for port in set(votes):
            node = next((node for node in self.nodes if node.port == port), None)
            if node and votes.count(port) * 2 > len(self.sentinels) and _usable(node) and _role(node) == "master":
                return node
        return None

    def _replicas_in_step(self) -> bool:
        primary = self._agreed_primary() if self.sentinels else self.nodes[0]
        if primary is None:
            return False
        replicas = [node for node in self.nodes if node is not primary]
        known = primary.info("replication")
        return int(known["connected_slaves"]) == len(replicas) and all(_follows(r, primary) for r in replicas)

    def _sentinels_agree(self) -> bool:
        views = [_view(sentinel, self.name) for sentinel in self.sentinels]
        return all(
            view["flags"] == "master"
            and int(view["num-slaves"]) == len(self.nodes) - 1
            and int(view["num-other-sentinels"]) == len(self.sentinels) - 1
            and view["port"] == views[0]["port"]
            for view in views
        ) and all(_replicas_up(sentinel, self.name) for sentinel in self.sentinels)


def start_sentinels(
    binary: ServerBinary | None = None,
    *,
    sentinels: int = 3,
    replicas: int = 2,
    quorum: int = 2,
    config: Config | None = None,
    name: str = "mymaster",
) -> SentinelGroup:
    """Start a primary, its replicas and the sentinels, and return when a failover could start.

    `config` goes to the data servers. A primary that is gone is noticed after one second.

    Raises:
        ServerUnsuitable: no server program; a retry does not help.
        Unavailable, TimeoutError: the group did not come up; nothing is left running.
    """
    binary = binary or default_binary()
    group = SentinelGroup(name)
    try:
        _start_nodes(group, binary, replicas, dict(config or {}))
        wait_until(group._replicas_in_step, timeout=30, what="the first synchronisation")  # noqa: SLF001 - same module
        for _ in range(sentinels):
            group.add(_start_sentinel(binary, name, group.nodes[0].port, quorum), sentinel=True)
        group.wait_ready()
    except BaseException:
        group.close()
        raise
    return group


def _start_nodes(group: SentinelGroup, binary: ServerBinary, replicas: int, config: dict[str, Any]) -> None:
    group.add(start_server(binary, config=config), sentinel=False)
    for _ in range(replicas):
        following = {"replicaof": f"{HOST} {group.nodes[0].port}"}
        group.add(start_server(binary, config={**config, **following}), sentinel=False)


def _start_sentinel(binary: ServerBinary, name: str, port: int, quorum: int) -> RunningServer:
    watching = [
        f"monitor {name} {HOST} {port} {quorum}",
        f"down-after-milliseconds {name} {_DOWN_AFTER_MS}",
        f"failover-timeout {name} {_FAILOVER_TIMEOUT_MS}",
        f"parallel-syncs {name} 8",
    ]
    return start_server(binary, config={"sentinel": watching}, sentinel=True)


def _usable(server: RunningServer) -> bool:
    return server.alive and not server.process.paused


def _asked(sentinel: RunningServer, name: str) -> int:
    return int(sentinel.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)[1])


def _role(node: RunningServer) -> str:
    return str(node.command("ROLE")[0].decode())


def _follows(replica: RunningServer, primary: RunningServer) -> bool:
    state = replica.info("replication")
    return (state["role"], state.get("master_port"), state.get("master_link_status")) == ("slave", primary.port, "up")


def _view(sentinel: RunningServer, name: str) -> dict[str, str]:
    return _pairs(sentinel.command("SENTINEL", "MASTER", name))


def _replicas_up(sentinel: RunningServer, name: str) -> bool:
    states = [_pairs(reply) for reply in sentinel.command("SENTINEL", "REPLICAS", name)]
    return all(state["flags"] == "slave" and state["master-link-status"] == "ok" for state in states)


def _pairs(reply: Any) -> dict[str, str]:
    items = list(reply.items()) if isinstance(reply, dict) else list(zip(reply[::2], reply[1::2], strict=True))
    return {_text(key): _text(value) for key, value in items}


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
