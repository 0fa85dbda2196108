"""Reading CLUSTER NODES, and moving slots from node to node.

What belongs here: one node's view as data, and the steps of a slot migration. What does not: starting nodes (see
`clusters`). Invariant: `move_keys` moves each key whole; a slot is handed over only after its last key.
"""

from __future__ import annotations

from dataclasses import dataclass

import redis

from lukhas_redis.testing.ports import HOST
from lukhas_redis.testing.servers import RunningServer

SLOTS = 16_384

_BATCH = 100
_MIGRATE_TIMEOUT_MS = 5000


@dataclass(frozen=True, slots=True)
class NodeView:
    """One line of CLUSTER NODES: who a node is, as another node sees it."""

    id: str
    port: int
    flags: frozenset[str]
    primary_id: str
    ranges: tuple[tuple[int, int], ...]

    @property
    def is_primary(self) -> bool:
        """Whether it is a primary."""
        return "master" in self.flags

    @property
    def healthy(self) -> bool:
        """Whether the viewer believes it to be reachable and fully met."""
        return not self.flags & {"fail", "fail?", "handshake", "noaddr"}

    def owns(self, slot: int) -> bool:
        """Whether the slot is assigned to it."""
        return any(first <= slot <= last for first, last in self.ranges)


def view_of(server: RunningServer) -> list[NodeView]:
    """All nodes as this server sees them."""
    text: str = server.command("CLUSTER", "NODES").decode()
    return [_parse(line) for line in text.splitlines() if line]


def _parse(line: str) -> NodeView:
    node_id, address, flags, primary, *rest = line.split(" ")
    port = int(address.split("@")[0].rpartition(":")[2])
    ranges = tuple(_range(text) for text in rest[4:] if not text.startswith("["))
    return NodeView(node_id, port, frozenset(flags.split(",")), primary.strip("-"), ranges)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)


def keys_in(source: RunningServer, slot: int, limit: int) -> list[bytes]:
    """Up to `limit` keys of the slot that are still on `source`."""
    return list(source.command("CLUSTER", "GETKEYSINSLOT", slot, limit))


def open_slot(slot: int, source: RunningServer, source_id: str, target: RunningServer, target_id: str) -> None:
    """Mark the slot importing on `target` and migrating on `source`, in this order, so that no ASK is refused."""
    target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
    source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)


def move_keys(source: RunningServer, target: RunningServer, keys: list[bytes]) -> None:
    """Move these keys; clients may use the slot meanwhile."""
    for start in range(0, len(keys), _BATCH):
        batch = keys[start : start + _BATCH]
        source.command("MIGRATE", HOST, target.port, "", 0, _MIGRATE_TIMEOUT_MS, "KEYS", *batch)


def drain_slot(slot: int, source: RunningServer, target: RunningServer) -> None:
    """Move keys until none of the slot is left on `source`."""
    while keys := keys_in(source, slot, _BATCH):
        try:
            move_keys(source, target, keys)
        except redis.ResponseError as error:
            if "BUSYKEY" not in str(error):
                raise
            _move_one_by_one(source, target, keys)


def _move_one_by_one(source: RunningServer, target: RunningServer, keys: list[bytes]) -> None:
    # A source promoted since may still hold keys that its dead primary had moved; the target's are the newer ones.
    for key in keys:
        try:
            move_keys(source, target, [key])
        except redis.ResponseError as error:
            if "BUSYKEY" not in str(error):
                raise
            source.command("UNLINK", key)


def set_owner(slot: int, owner_id: str, servers: list[RunningServer]) -> None:
    """Tell each of these servers who owns the slot; a new owner comes first, so that the slot never has none."""
    for server in servers:
        server.command("CLUSTER", "SETSLOT", slot, "NODE", owner_id)
