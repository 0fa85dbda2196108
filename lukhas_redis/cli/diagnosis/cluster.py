"""Clusters and Sentinel groups as a whole.

What belongs here: slots, state, quorum. What does not: single servers (`server`).
Invariant: asks one node of a cluster, and one sentinel.
"""

from __future__ import annotations

from lukhas_redis.cli.diagnosis.finding import Finding, unknown
from lukhas_redis.cli.servers import Line, line_to
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.transport.answers import text
from lukhas_redis.transport.dialing import Plan
from lukhas_redis.transport.steps import ServerReply

SLOTS = 16_384


def cluster(line: Line) -> Finding:
    """Whether the cluster serves all slots."""
    server = str(line.node)
    (reply,) = line.ask(("CLUSTER", "INFO"))
    if type(reply) is ServerReply:
        return unknown("cluster", reply, "grant +cluster|info", server)
    facts = dict(row.split(":", 1) for row in text(reply).splitlines() if ":" in row)
    state, ok = facts.get("cluster_state", "?"), int(facts.get("cluster_slots_ok", "0"))
    found = f"state {state}, {ok} of {SLOTS} slots served by {facts.get('cluster_size', '?')} primaries"
    if state == "ok" and ok == SLOTS:
        return Finding("cluster", "ok", found, server=server)
    return Finding("cluster", "fail", found, f"redis-cli --cluster check {server}", server)


def sentinels(plan: Plan) -> Finding:
    """Whether the sentinels could agree on a failover; asks the first one that answers."""
    for node in plan.seeds:
        try:
            with line_to(node, plan) as line:
                said = text(line.do("SENTINEL", "CKQUORUM", plan.service))
        except LukhasRedisError as error:
            if "NOQUORUM" in error.message:
                return Finding("sentinels", "fail", error.message, "start the missing sentinels", str(node))
            continue
        return Finding("sentinels", "ok", said, server=str(node))
    return unknown("sentinels", "none answered", "check the sentinels of the URL")
