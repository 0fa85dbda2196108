"""Whether a server is configured to keep what it acknowledges.

What belongs here: reading the server's answer about its append-only file. What does not: when it is asked
(`engine`, `inspection`).
Invariant: silence is no proof: only `appendonly yes` with `appendfsync always`, shown by the server or vouched
for by the operator, counts as durable.
"""

from __future__ import annotations

from typing import Any

from lukhas_redis.calls import Command
from lukhas_redis.errors import ServerUnsuitable
from lukhas_redis.transport.answers import texts
from lukhas_redis.transport.outcome import Verdict, judge
from lukhas_redis.transport.steps import ServerReply
from lukhas_redis.transport.world import Policy

SHOW_DURABILITY: Command = ("CONFIG", "GET", "append*")
_WANTED = {"appendonly": "yes", "appendfsync": "always"}


def shortfall(shown: Any, policy: Policy) -> str | None:
    """What the server's answer to `SHOW_DURABILITY` lacks, or None when nothing."""
    if type(shown) is ServerReply:
        if policy.server_appendfsync == "always":
            return None
        return f"the server does not show its settings ({shown})"
    settings = texts(shown)
    wrong = [
        f"{name} is {settings.get(name)}, not {want}" for name, want in _WANTED.items() if settings.get(name) != want
    ]
    return ", ".join(wrong) or None


def require_durable(shown: Any, policy: Policy, where: str) -> None:
    """Nothing when the server may be trusted with durable writes.

    Raises:
        ServerUnsuitable: It may not; nothing was written. A retry helps only after the setting was changed.
    """
    missing = shortfall(shown, policy)
    if missing is None:
        return
    if type(shown) is ServerReply and judge(str(shown)) in (Verdict.DENIED, Verdict.FAULT):
        raise ServerUnsuitable(
            f"{where} does not show whether its writes are durable ({shown}). Grant the user +config|get, or set "
            'server_appendfsync="always" to vouch for `appendonly yes` and `appendfsync always`.',
            server=where,
            setting="appendfsync",
        )
    raise ServerUnsuitable(
        f"{where} cannot give this durability: {missing}. Run CONFIG SET appendonly yes and CONFIG SET appendfsync "
        "always (and put both into its configuration file), or ask for durability memory.",
        server=where,
        setting="appendonly" if "appendonly" in missing else "appendfsync",
    )
