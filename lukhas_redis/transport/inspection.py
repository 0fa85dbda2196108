"""Whether a server suits: version, eviction policy, role, deployment, and for durable writes its append-only file.

What belongs here: the questions, and the verdict on the answers. What does not: when they are asked (`engine`).
Invariant: nothing is written to a server that was not found suitable on its present connection.
"""

from __future__ import annotations

from typing import Any

from lukhas_redis.calls import Command
from lukhas_redis.errors import ServerUnsuitable
from lukhas_redis.transport.answers import answers, text
from lukhas_redis.transport.durability import SHOW_DURABILITY, require_durable
from lukhas_redis.transport.outcome import Verdict, judge
from lukhas_redis.transport.steps import Exchange, Node, Outcome, ServerReply, SetbackError, Steps
from lukhas_redis.transport.world import ServerInfo, World

OLDEST_MAJOR = 7
_QUESTIONS: list[Command] = [("INFO", "server"), ("INFO", "memory"), ("INFO", "replication")]


def inspect(node: Node, world: World, deadline: float) -> Steps[None]:
    """Ask a server what it is and record that it suits.

    Raises:
        ServerUnsuitable, AccessDenied: The message names the setting or right. A retry helps after it was changed.
        SetbackError: It could not be asked, or is not a primary at the moment.
    """
    outcome: Outcome = yield Exchange(node, _QUESTIONS, deadline)
    facts = _facts("\r\n".join(text(reply) for reply in answers(outcome, node, "+info, to check the server")))
    server = _identity(facts, world.routes.mode)
    _require_version(facts, server, node)
    _require_mode(facts, world, node)
    _require_primary(facts, world, node)
    if world.policy.require_noeviction:
        _require_noeviction(facts, node)
    world.knowledge.found_suitable(node, world.clock(), server)


def inspect_durability(node: Node, world: World, deadline: float) -> Steps[None]:
    """Ask a server whether its writes are durable and record that they are.

    Raises:
        ServerUnsuitable: They are not, or it does not tell; nothing was written.
        SetbackError: It could not be asked.
    """
    outcome: Outcome = yield Exchange(node, [SHOW_DURABILITY], deadline)
    shown: Any = outcome[0] if isinstance(outcome, list) else None
    if type(shown) is not ServerReply or judge(str(shown)) not in (Verdict.DENIED, Verdict.FAULT):
        (shown,) = answers(outcome, node, "+config|get")
    require_durable(shown, world.policy, str(node))
    world.knowledge.found_durable(node, world.clock())


def _facts(info: str) -> dict[str, str]:
    return {name: value for name, _, value in (line.partition(":") for line in info.splitlines()) if value}


def _identity(facts: dict[str, Any], mode: str) -> ServerInfo:
    valkey = facts.get("valkey_version")
    return ServerInfo("valkey" if valkey else "redis", valkey or facts.get("redis_version", "0"), mode)


def _require_version(facts: dict[str, str], server: ServerInfo, node: Node) -> None:
    # Valkey keeps saying redis_version 7.2 for compatibility, so this one number serves both.
    text = facts.get("redis_version", "0")
    major = text.split(".")[0]
    if not major.isdigit() or int(major) < OLDEST_MAJOR:
        raise ServerUnsuitable(
            f"{node} runs {server.flavor} {server.version}; Redis or Valkey {OLDEST_MAJOR}.0 or newer is needed",
            server=str(node),
            setting="version",
        )


def _require_mode(facts: dict[str, str], world: World, node: Node) -> None:
    mode = facts.get("redis_mode") or facts.get("server_mode", "standalone")
    clustered = mode == "cluster"
    if clustered == (world.routes.mode == "cluster"):
        return
    advice = f"use redis+cluster://{node}" if clustered else f"use redis://{node}"
    kind = "a node of a cluster" if clustered else "not a node of a cluster"
    raise ServerUnsuitable(f"{node} is {kind}: {advice}", server=str(node), setting="cluster-enabled")


def _require_primary(facts: dict[str, str], world: World, node: Node) -> None:
    if facts.get("role", "master") == "master":
        return
    world.routes.suspect()
    if world.routes.mode != "single":
        raise SetbackError(f"{node} is a replica at the moment")
    primary = f"{facts.get('master_host')}:{facts.get('master_port')}"
    raise ServerUnsuitable(
        f"{node} is a replica: connect to its primary {primary}, or through redis+sentinel://",
        server=str(node),
        setting="replicaof",
    )


def _require_noeviction(facts: dict[str, str], node: Node) -> None:
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise ServerUnsuitable(
            f"{node} has maxmemory-policy {policy}: it would evict contexts silently. Run CONFIG SET maxmemory-policy "
            "noeviction (and put it into its configuration file), or set require_noeviction=false to accept the loss",
            server=str(node),
            setting="maxmemory-policy",
        )
