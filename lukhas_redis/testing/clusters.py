"""A Redis Cluster of primaries and replicas on the loopback interface.

What belongs here: forming it with plain commands (a Valkey wheel has no redis-cli), asking it, hurting it. What does
not: the steps of a slot migration (see `slots`). Invariant: when `start_cluster` or `wait_ready` returns, all nodes
agree on roles and slots, every slot is served and every replica is in step.
"""

from __future__ import annotations

from typing import Any

from redis.cluster import RedisCluster

from lukhas_redis.testing.binaries import ServerBinary, default_binary
from lukhas_redis.testing.configuration import Config
from lukhas_redis.testing.group import ServerGroup, addresses
from lukhas_redis.testing.ports import HOST, free_port
from lukhas_redis.testing.servers import RunningServer, start_server
from lukhas_redis.testing.slots import (
    SLOTS,
    NodeView,
    drain_slot,
    keys_in,
    move_keys,
    open_slot,
    set_owner,
    view_of,
)
from lukhas_redis.testing.waiting import wait_until

_EVERY_KEY = 1_000_000


class Cluster(ServerGroup):
    """The nodes of one cluster."""

    def __init__(self) -> None:
        super().__init__()
        self._clients: list[RedisCluster] = []
        self._migrations: dict[int, RunningServer] = {}  # slot -> where it goes

    @property
    def nodes(self) -> list[RunningServer]:
        """All nodes, primaries first as they were started."""
        return self.servers

    @property
    def url(self) -> str:
        """`redis+cluster://host:port,...` with all nodes."""
        return f"redis+cluster://{addresses(self.servers)}"

    def client(self, **options: Any) -> RedisCluster:
        """A plain sync redis-py cluster client. Closed with the cluster."""
        client = RedisCluster(host=HOST, port=self._witness().port, **options)
        self._clients.append(client)
        return client

    def primaries(self) -> list[RunningServer]:
        """The live primaries that own slots."""
        return [server for server, node in self._selves() if node.is_primary and node.ranges]

    def replicas_of(self, primary: RunningServer) -> list[RunningServer]:
        """The replicas of a primary, dead ones included."""
        mine = self._node_id(primary)
        return [self._server(node) for node in self._views() if node.primary_id == mine]

    def node_for_slot(self, slot: int) -> RunningServer:
        """The server that owns a slot (0..16383).

        Raises:
            LookupError: none owns it.
        """
        for node in self._views():
            if node.owns(slot):
                return self._server(node)
        raise LookupError(f"no node owns slot {slot}")

    def slot_of(self, key: str | bytes) -> int:
        """The slot of a key."""
        return int(self._witness().command("CLUSTER", "KEYSLOT", key))

    def kill_primary(self, slot: int) -> RunningServer:
        """Kill the owner of a slot with -9 and return it; see `wait_failover`."""
        primary = self.node_for_slot(slot)
        primary.kill9()
        return primary

    def wait_failover(self, slot: int, old: RunningServer, timeout: float = 60.0) -> RunningServer:
        """Wait until another server than `old` owns the slot and all live nodes serve, and return it.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """
        wait_until(lambda: self._moved(slot, old), timeout=timeout, what=f"slot {slot} leaves {old.port}")
        return wait_until(lambda: self._claimant(slot), what=f"exactly one node claims slot {slot}")

    def begin_migration(self, slot: int, target: RunningServer | None = None, *, share: float = 0.5) -> list[bytes]:
        """Leave a slot half migrated: marked on both nodes, `share` (0..1) of its keys moved; returns the moved keys.

        `target` defaults to another primary. Ends with `finish_migration`.
        """
        source = self.node_for_slot(slot)
        target = target or next(server for server in self.primaries() if server is not source)
        self._migrations[slot] = target
        open_slot(slot, source, self._node_id(source), target, self._node_id(target))
        keys = sorted(keys_in(source, slot, _EVERY_KEY))
        moved = keys[: round(len(keys) * share)]
        move_keys(source, target, moved)
        return moved

    def finish_migration(self, slot: int) -> RunningServer:
        """Move the remaining keys of a slot left by `begin_migration`, hand it over, and return its new owner.

        Works after a failover in between too: marks are not replicated everywhere, so they are set again.

        Raises:
            KeyError: no migration of this slot was begun.
        """
        target = self._acting(self._migrations.pop(slot))
        source = wait_until(lambda: self._claimant(slot), what=f"exactly one node claims slot {slot}")
        if source is not target:
            set_owner(slot, self._node_id(source), [target])
            open_slot(slot, source, self._node_id(source), target, self._node_id(target))
            wait_until(lambda: _serves(source) and _serves(target), timeout=30, what="both ends of a migration serve")
            drain_slot(slot, source, target)
        others = [server for server in self.primaries() if server is not target]
        set_owner(slot, self._node_id(target), [target, *others])
        wait_until(lambda: self._agreed_owner(slot, target), timeout=30, what=f"all nodes see slot {slot} moved")
        return target

    def move_slot(self, slot: int, target: RunningServer | None = None) -> RunningServer:
        """Move a slot with its keys while clients use it, as a reshard does; returns the new owner."""
        self.begin_migration(slot, target, share=0.0)
        return self.finish_migration(slot)

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until all nodes agree, all slots are served and all replicas are in step.

        Raises:
            TimeoutError: not within `timeout` seconds.
        """
        super().wait_ready(timeout)
        wait_until(self._settled, timeout=timeout, what="all cluster nodes agree and serve")
        wait_until(self._in_step, timeout=timeout, what="all cluster replicas are in step")

    def heal(self) -> None:
        """As every group does, but first finish the migrations left half way.

        A node that imports a slot learns of no new owner by itself (Redis 7.0), so until then the nodes disagree.
        """
        self.revive()
        for slot in list(self._migrations):
            self.finish_migration(slot)
        self.wait_ready()

    @property
    def disturbed(self) -> bool:
        """Whether a node is paused or has ended, or a slot is half migrated."""
        return bool(self._migrations) or super().disturbed

    def close(self) -> None:
        """Close the clients, end all nodes and remove their directories."""
        for client in self._clients:
            client.close()
        super().close()

    def _witness(self) -> RunningServer:
        return next(server for server in self.servers if server.alive and not server.process.paused)

    def _views(self) -> list[NodeView]:
        return view_of(self._witness())

    def _server(self, node: NodeView) -> RunningServer:
        return self.server_at(HOST, node.port)

    def _node_id(self, server: RunningServer) -> str:
        return next(node.id for node in self._views() if node.port == server.port)

    def _acting(self, server: RunningServer) -> RunningServer:
        """The server itself, or the primary it follows since a failover."""
        views = self._views()
        mine = next(node for node in views if node.port == server.port)
        return next((self._server(node) for node in views if node.id == mine.primary_id), server)

    def _living(self) -> list[RunningServer]:
        return [server for server in self.servers if server.alive and not server.process.paused]

    def _selves(self) -> list[tuple[RunningServer, NodeView]]:
        """Each living server with what it says of itself."""
        return [(s, next(node for node in view_of(s) if "myself" in node.flags)) for s in self._living()]

    def _claimant(self, slot: int) -> RunningServer | None:
        claims = [server for server, node in self._selves() if node.owns(slot)]
        return claims[0] if len(claims) == 1 else None

    def _moved(self, slot: int, old: RunningServer) -> bool:
        importing = self._migrations.get(slot)  # see `heal`: what it believes does not count
        living = [server for server in self._living() if server is not importing]
        owners = {node.port for server in living for node in view_of(server) if node.owns(slot)}
        return len(owners) == 1 and old.port not in owners and all(_serves(server) for server in living)

    def _agreed_owner(self, slot: int, owner: RunningServer) -> bool:
        views = [view_of(server) for server in self._living()]
        return all([node.port for node in view if node.owns(slot)] == [owner.port] for view in views)

    def _settled(self) -> bool:
        views = [view_of(server) for server in self.servers]
        pictures = {frozenset((node.id, node.is_primary, node.primary_id, node.ranges) for node in v) for v in views}
        everyone = all(len(view) == len(self.servers) and all(node.healthy for node in view) for view in views)
        return everyone and len(pictures) == 1 and all(_serves(server) for server in self.servers)

    def _in_step(self) -> bool:
        states = [server.info("replication") for server in self.servers]
        return all(state["role"] == "master" or state["master_link_status"] == "up" for state in states)


def start_cluster(
    binary: ServerBinary | None = None,
    *,
    primaries: int = 3,
    replicas: int = 1,
    config: Config | None = None,
) -> Cluster:
    """Start a cluster with `replicas` replicas for each primary and return when it serves, after about three seconds.

    A dead node is noticed after 1.5 seconds. `config` goes to every node.

    Raises:
        ServerUnsuitable: no server program; a retry does not help.
        Unavailable, TimeoutError: the cluster did not come up; nothing is left running.
    """
    binary = binary or default_binary()
    cluster = Cluster()
    try:
        for _ in range(primaries * (1 + replicas)):
            cluster.servers.append(_start_node(binary, dict(config or {})))
        _form(cluster, primaries)
        cluster.wait_ready()
    except BaseException:
        cluster.close()
        raise
    return cluster


def _start_node(binary: ServerBinary, config: dict[str, Any]) -> RunningServer:
    clustered: dict[str, Any] = {
        "cluster-enabled": "yes",
        "cluster-port": free_port(),
        "cluster-node-timeout": 1500,
        "cluster-allow-replica-migration": "no",  # roles change by failover only, so tests can foresee them
        "cluster-replica-validity-factor": 0,  # a replica may take over however long its primary was away
    }
    return start_server(binary, config={**clustered, **config})


def _form(cluster: Cluster, primaries: int) -> None:
    nodes = cluster.servers
    bounds = [SLOTS * i // primaries for i in range(primaries + 1)]
    for i, node in enumerate(nodes):
        node.command("CLUSTER", "SET-CONFIG-EPOCH", i + 1)
        if i < primaries:
            node.command("CLUSTER", "ADDSLOTSRANGE", bounds[i], bounds[i + 1] - 1)
    for node in nodes[1:]:
        bus_port = int(str(node.admin.config_get("cluster-port")["cluster-port"]))
        nodes[0].command("CLUSTER", "MEET", HOST, node.port, bus_port)
    wait_until(lambda: all(_knows(node, len(nodes)) for node in nodes), timeout=30, what="all nodes have met")
    for i, replica in enumerate(nodes[primaries:]):
        replica.command("CLUSTER", "REPLICATE", nodes[i % primaries].command("CLUSTER", "MYID"))


def _knows(server: RunningServer, number: int) -> bool:
    view = view_of(server)
    return len(view) == number and all(node.healthy for node in view)


def _serves(server: RunningServer) -> bool:
    text: str = server.command("CLUSTER", "INFO").decode()
    return "cluster_state:ok" in text and f"cluster_slots_ok:{SLOTS}" in text
