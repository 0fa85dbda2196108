"""Topologies: what they learn from servers, when they ask again, and whom they believe."""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis.errors import AccessDenied
from lukhas_redis.transport.routes import ClusterRoutes, Routes, SentinelRoutes, SingleRoute, slot_of
from lukhas_redis.transport.steps import Exchange, Node, NotSent, ServerReply, SetbackError

S1, S2, S3 = (Node(f"s{n}", 26379, role="sentinel") for n in (1, 2, 3))
A, B = Node("a", 1), Node("b", 2)


def refresh(routes: Routes, replies: dict[Node, Any], now: float = 0.0) -> list[Node]:
    """Refresh from canned replies, `NotSent` where there is none; whom it asked, in order."""
    asked: list[Node] = []
    steps = routes.refresh(lambda: now, now + 5)
    try:
        step = next(steps)
        while isinstance(step, Exchange):
            node = step.node if step.node.role == "sentinel" else step.node._replace(role="data")
            asked.append(node)
            step = steps.send(replies.get(node, NotSent("refused")))
    except StopIteration:
        pass
    return asked


def named(host: str, port: int, epoch: int) -> list[Any]:
    """What a sentinel says of its service."""
    return [[host.encode(), str(port).encode()], [b"name", b"svc", b"config-epoch", str(epoch).encode()]]


def slots(*owners: tuple[int, int, str, int]) -> list[Any]:
    """A reply to CLUSTER SLOTS."""
    return [[[first, last, [host.encode(), port, b"id"]] for first, last, host, port in owners]]


def test_a_majority_of_sentinels_is_asked_and_the_newest_configuration_counts() -> None:
    """A sentinel cut off together with the old primary does not win against one that saw the failover."""
    routes = SentinelRoutes([S1, S2, S3], "svc", 30)
    asked = refresh(routes, {S1: named("a", 1, 3), S2: named("b", 2, 4), S3: named("b", 2, 4)})
    assert asked == [S1, S2]
    assert routes.node("any") == B


def test_silent_sentinels_are_passed_over_and_asked_last() -> None:
    """A sentinel that does not answer costs one try; next time it is asked last."""
    routes = SentinelRoutes([S1, S2, S3], "svc", 30)
    replies = {S2: named("a", 1, 1), S3: named("a", 1, 1)}
    assert refresh(routes, replies) == [S1, S2, S3]
    assert refresh(routes, replies) == [S2, S3]


def test_sentinel_is_asked_again_within_two_seconds_whatever_the_interval() -> None:
    """The sockets of an isolated primary do not break, so Sentinel is asked every two seconds at least."""
    routes = SentinelRoutes([S1], "svc", 3600)
    assert routes.due(0.0)
    refresh(routes, {S1: named("a", 1, 1)}, now=10.0)
    assert not routes.due(11.9)
    assert routes.due(12.1)
    refresh(routes, {S1: named("b", 2, 2)}, now=12.1)
    assert routes.nodes() == (B,)


def test_a_suspicion_has_sentinel_asked_at_once() -> None:
    """After a failure that a failover would explain, the next call asks first."""
    routes = SentinelRoutes([S1], "svc", 3600)
    refresh(routes, {S1: named("a", 1, 1)}, now=10.0)
    routes.suspect()
    assert routes.due(10.0)


def test_without_any_sentinel_the_known_primary_is_kept() -> None:
    """Sentinels may all be down: a primary that is known goes on being used; an unknown one is a setback."""
    routes = SentinelRoutes([S1], "svc", 30)
    with pytest.raises(SetbackError, match="svc"):
        refresh(routes, {})
    refresh(routes, {S1: named("a", 1, 1)})
    refresh(routes, {})
    assert routes.node("any") == A


def test_a_sentinel_that_does_not_know_the_service_says_so() -> None:
    """A wrong service name is a setback that tells what the sentinels said."""
    unknown = [None, ServerReply("ERR No such master with that name")]
    with pytest.raises(SetbackError, match="No such master"):
        refresh(SentinelRoutes([S1], "svc", 30), {S1: unknown})


def test_sentinels_may_refuse_credentials() -> None:
    """A sentinel that wants other credentials is AccessDenied, not a failover."""
    with pytest.raises(AccessDenied, match="NOAUTH"):
        refresh(SentinelRoutes([S1], "svc", 30), {S1: [ServerReply("NOAUTH x"), ServerReply("NOAUTH x")]})


def test_every_slot_has_its_owner() -> None:
    """Tags are routed to the owner of their slot."""
    routes = ClusterRoutes([A])
    assert routes.node("x") is None
    half = slot_of("x")
    refresh(routes, {A: slots((0, half, "a", 1), (half + 1, 16383, "b", 2))})
    assert routes.node("x") == A
    assert routes.nodes() == (A, B)


def test_a_node_without_a_name_is_the_one_that_was_asked() -> None:
    """Nodes that do not know their own address announce none; the address we used is right for them."""
    for nameless in (b"", None, b"?"):
        routes = ClusterRoutes([A])
        refresh(routes, {A: [[[0, 16383, [nameless, 7, b"id"]]]]})
        assert routes.node("x") == Node("a", 7)
        assert routes.moved("x", "MOVED 1 :8", A) == Node("a", 8)


def test_a_redirection_patches_one_slot_and_has_the_map_fetched_again() -> None:
    """MOVED changes the slot at once; the whole map is due, but not more than once a second."""
    routes = ClusterRoutes([A])
    refresh(routes, {A: slots((0, 16383, "a", 1))}, now=10.0)
    assert not routes.due(100.0)
    assert routes.moved("x", f"MOVED {slot_of('x')} ::1:9", A) == Node("::1", 9)
    assert routes.node("x") == Node("::1", 9)
    assert routes.node("y") == A
    assert not routes.due(10.5)
    assert routes.due(11.1)


def test_ask_is_not_remembered() -> None:
    """ASK names a server for one unit; the slot stays where it is."""
    routes = ClusterRoutes([A])
    refresh(routes, {A: slots((0, 16383, "a", 1))})
    assert routes.moved("x", f"ASK {slot_of('x')} b:2", A) == B
    assert routes.node("x") == A


def test_another_node_is_asked_first_each_time() -> None:
    """A node cut off from the cluster shows an old map: the next refresh asks somebody else first."""
    routes = ClusterRoutes([A, B])
    both = {A: slots((0, 16383, "a", 1)), B: slots((0, 16383, "b", 2))}
    assert refresh(routes, both) == [A]
    assert refresh(routes, both) == [B]
    assert routes.node("x") == B


def test_a_cluster_without_slots_is_a_setback() -> None:
    """A node that serves no slots yet cannot be used, and says so."""
    with pytest.raises(SetbackError, match="no slots"):
        refresh(ClusterRoutes([A]), {A: [[]]})


def test_one_server_is_always_the_one() -> None:
    """A lone server needs no topology."""
    route = SingleRoute(A)
    route.suspect()
    assert route.node("x") == A
    assert not route.due(1e9)
    assert refresh(route, {}) == []
