"""Which server a hash tag belongs to: one server, the primary that Sentinel names, or the owner of a slot.

What belongs here: the three kinds of topology and the steps that find them out. What does not: connections.
Invariant: a route is what some server said last; a wrong one costs a redirection or a refusal, never a wrong write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from redis.crc import key_slot

from lukhas_redis.calls import Command
from lukhas_redis.transport.answers import answers, text, texts
from lukhas_redis.transport.steps import Exchange, Node, Outcome, SetbackError, Steps

# A sentinel-following client must leave an isolated primary within five seconds, whatever else is checked how often.
_LONGEST_SENTINEL_TRUST = 2.0
# Redirections of a live reshard patch single slots; the whole map is fetched again at most this often.
_SHORTEST_MAP_AGE = 1.0
# A server that says nothing for so long is passed over.
_PROBE_SECONDS = 1.0


class Routes(Protocol):
    """What the engine asks of a topology."""

    mode: str

    def node(self, tag: str) -> Node | None:
        """The server for a hash tag, or None while nothing is known."""
        ...

    def nodes(self) -> tuple[Node, ...]:
        """Every server that takes writes, as far as known."""
        ...

    def due(self, now: float) -> bool:
        """Whether the topology must be asked for again before it is used."""
        ...

    def suspect(self) -> None:
        """Something failed in a way that a change of topology would explain."""
        ...

    def moved(self, tag: str, message: str, asked: Node) -> Node:
        """The server a redirection (`MOVED slot host:port`, `ASK ...`) by `asked` names; MOVED is remembered."""
        ...

    def refresh(self, clock: Callable[[], float], deadline: float) -> Steps[None]:
        """Ask for the topology; ends with `SetbackError` when nobody can tell."""
        ...


class SingleRoute:
    """One server, for ever."""

    mode = "single"

    def __init__(self, node: Node) -> None:
        self._node = node

    def node(self, tag: str) -> Node | None:  # noqa: ARG002
        """The one server."""
        return self._node

    def nodes(self) -> tuple[Node, ...]:
        """The one server."""
        return (self._node,)

    def due(self, now: float) -> bool:  # noqa: ARG002
        """Never."""
        return False

    def suspect(self) -> None:
        """There is nothing to ask."""

    def moved(self, tag: str, message: str, asked: Node) -> Node:  # noqa: ARG002
        """A lone server does not redirect; one that does is found unsuitable when it is inspected."""
        return _redirected(message, asked)

    def refresh(self, clock: Callable[[], float], deadline: float) -> Steps[None]:  # noqa: ARG002
        """Nothing to ask."""
        yield from ()


class SentinelRoutes:
    """The primary of one service, as the sentinels with the newest configuration name it."""

    mode = "sentinel"

    def __init__(self, sentinels: Sequence[Node], service: str, check_interval_seconds: float) -> None:
        self._sentinels = list(sentinels)
        self._service = service
        self._trust = min(check_interval_seconds, _LONGEST_SENTINEL_TRUST)
        self._primary: Node | None = None
        self._asked_at = float("-inf")

    def node(self, tag: str) -> Node | None:  # noqa: ARG002
        """The primary."""
        return self._primary

    def nodes(self) -> tuple[Node, ...]:
        """The primary, once it is known."""
        return (self._primary,) if self._primary else ()

    def due(self, now: float) -> bool:
        """Sentinel is asked again after at most two seconds: the sockets of an isolated primary do not break."""
        return now - self._asked_at > self._trust

    def suspect(self) -> None:
        """Ask before the next call."""
        self._asked_at = float("-inf")

    def moved(self, tag: str, message: str, asked: Node) -> Node:  # noqa: ARG002
        """A primary outside a cluster does not redirect."""
        return _redirected(message, asked)

    def refresh(self, clock: Callable[[], float], deadline: float) -> Steps[None]:
        """Ask sentinels until a majority answered; the answer with the highest configuration epoch counts."""
        question: list[Command] = [
            ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service),
            ("SENTINEL", "MASTER", self._service),
        ]
        named: list[tuple[int, Node]] = []
        reasons: list[str] = []
        for sentinel in tuple(self._sentinels):
            outcome: Outcome = yield Exchange(sentinel, question, min(clock() + _PROBE_SECONDS, deadline))
            try:
                named.append(_named_primary(outcome, sentinel))
            except SetbackError as setback:
                reasons.append(str(setback))
                # Whoever did not answer is asked last next time.
                self._sentinels.remove(sentinel)
                self._sentinels.append(sentinel)
            if len(named) > len(self._sentinels) // 2:
                break
        self._settle(named, reasons, clock())

    def _settle(self, named: list[tuple[int, Node]], reasons: list[str], now: float) -> None:
        if named:
            self._primary = max(named, key=lambda epoch_and_node: epoch_and_node[0])[1]
        elif self._primary is None:
            raise SetbackError(f"no sentinel names a primary for {self._service!r}: {'; '.join(reasons)}")
        # Without any sentinel the primary known so far is better than none; its own refusals still move us on.
        self._asked_at = now


def _named_primary(outcome: Outcome, sentinel: Node) -> tuple[int, Node]:
    address, state = answers(outcome, sentinel, "+sentinel|master and +sentinel|get-master-addr-by-name on Sentinel")
    if not address:
        raise SetbackError(f"sentinel {sentinel} does not know the service")
    return int(texts(state).get("config-epoch", "0")), Node(text(address[0]), int(address[1]))


class ClusterRoutes:
    """The owner of every slot, from CLUSTER SLOTS, patched by redirections."""

    mode = "cluster"

    def __init__(self, seeds: Sequence[Node]) -> None:
        self._seeds = tuple(seeds)
        self._owners: dict[int, Node] = {}
        self._asked_at = float("-inf")
        self._suspect = True
        self._refreshes = 0

    def node(self, tag: str) -> Node | None:
        """The owner of the tag's slot."""
        return self._owners.get(slot_of(tag))

    def nodes(self) -> tuple[Node, ...]:
        """Every owner of a slot."""
        return tuple(dict.fromkeys(self._owners.values()))

    def due(self, now: float) -> bool:
        """After a redirection or a broken connection, but not more than once a second."""
        return self._suspect and now - self._asked_at > _SHORTEST_MAP_AGE

    def suspect(self) -> None:
        """Fetch the whole map before one of the next calls."""
        self._suspect = True

    def moved(self, tag: str, message: str, asked: Node) -> Node:
        """The server a redirection names; after MOVED it owns the slot."""
        target = _redirected(message, asked)
        if message.startswith("MOVED"):
            self._owners[slot_of(tag)] = target
            self._suspect = True
        return target

    def refresh(self, clock: Callable[[], float], deadline: float) -> Steps[None]:
        """Ask owners and seeds until one shows its map, each time another one first: one may be cut off."""
        reasons: list[str] = []
        known = tuple(dict.fromkeys(node._replace(role="map") for node in (*self.nodes(), *self._seeds)))
        first = self._refreshes % len(known)
        self._refreshes += 1
        for node in (*known[first:], *known[:first]):
            outcome: Outcome = yield Exchange(node, [("CLUSTER", "SLOTS")], min(clock() + _PROBE_SECONDS, deadline))
            try:
                self._owners = _slot_owners(outcome, node)
            except SetbackError as setback:
                reasons.append(str(setback))
                continue
            self._asked_at, self._suspect = clock(), False
            return
        if not self._owners:
            raise SetbackError(f"no node shows the slots of the cluster: {'; '.join(reasons)}")
        self._asked_at = clock()


def _slot_owners(outcome: Outcome, node: Node) -> dict[int, Node]:
    (slots,) = answers(outcome, node, "+cluster|slots")
    if not slots:
        raise SetbackError(f"{node}: no slots are assigned")
    owners: dict[int, Node] = {}
    for first, last, primary, *_ in slots:
        owner = _announced(primary[0], int(primary[1]), node)
        owners.update(dict.fromkeys(range(int(first), int(last) + 1), owner))
    return owners


def _announced(host: Any, port: int, asked: Node) -> Node:
    """A node that does not know its own address announces none: it is the one that was asked, at `port`."""
    name = text(host) if host else ""
    return Node(asked.host if name in ("", "?") else name, port)


def _redirected(message: str, asked: Node) -> Node:
    host, _, port = message.split(" ")[2].rpartition(":")
    return _announced(host, int(port), asked)


@lru_cache(maxsize=4096)
def slot_of(tag: str) -> int:
    """The cluster slot of a hash tag."""
    return key_slot(tag.encode())
