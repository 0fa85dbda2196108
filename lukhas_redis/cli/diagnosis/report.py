"""INFO and CONFIG of one server as values.

What belongs here: asking once for everything the checks need. What does not: judging (`server`).
Invariant: what the user may not ask is absent, and its refusal is kept.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lukhas_redis.cli.servers import Line
from lukhas_redis.transport.answers import text, texts
from lukhas_redis.transport.durability import SHOW_DURABILITY
from lukhas_redis.transport.steps import ServerReply

_SECTIONS = ("server", "memory", "persistence", "replication", "clients")


@dataclass(frozen=True)
class Report:
    """What a server says of itself; `round_trip_ms` is of a PING, `skew_ms` how far its clock is ahead of ours."""

    server: str
    round_trip_ms: float
    skew_ms: float | None
    facts: Mapping[str, str]
    durability: Any
    refused: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str) -> int:
        """A fact as a whole number; 0 when it is missing."""
        value = self.facts.get(name, "0")
        return int(value) if value.lstrip("-").isdigit() else 0

    @property
    def flavor(self) -> str:
        """`redis` or `valkey`."""
        return "valkey" if "valkey_version" in self.facts else "redis"

    @property
    def version(self) -> str:
        """The server's version, `?` when it does not say."""
        return self.facts.get("valkey_version") or self.facts.get("redis_version", "?")


def examine(line: Line) -> Report:
    """Ask one server for everything.

    Raises:
        Unavailable: The connection broke or the server is silent.
    """
    started = time.perf_counter()
    line.ask(("PING",))
    round_trip_ms = (time.perf_counter() - started) * 1000
    *infos, durability = line.ask(*[("INFO", section) for section in _SECTIONS], SHOW_DURABILITY)
    refused = {name: str(r) for name, r in zip(_SECTIONS, infos, strict=True) if type(r) is ServerReply}
    lines = [row for reply in infos if type(reply) is not ServerReply for row in text(reply).splitlines()]
    facts = {name: value for name, _, value in (row.partition(":") for row in lines) if value}
    return Report(str(line.node), round_trip_ms, _skew(line), facts, durability, refused)


def _skew(line: Line) -> float | None:
    """The server's clock against the middle of the round trip that asked for it; None when it does not tell."""
    before = time.time()
    (reply,) = line.ask(("TIME",))
    after = time.time()
    if type(reply) is ServerReply:
        return None
    return (int(reply[0]) + int(reply[1]) / 1e6 - (before + after) / 2) * 1000


def settings_shown(report: Report) -> dict[str, str] | None:
    """The server's settings about its append-only file, None when the user may not see them."""
    return None if type(report.durability) is ServerReply else texts(report.durability)
