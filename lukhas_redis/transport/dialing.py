"""How connections are made: which redis-py class, with which options, for data servers and for sentinels.

What belongs here: from settings and a URL, or from a redis-py client, to the arguments of a connection. What does
not: opening one (`sync`, `aio`).
Invariant: every connection speaks RESP2 without decoding, with redis-py's own retries off: replies then have one
form, and a command is sent as often as the engine says.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from redis.driver_info import DriverInfo
from redis.exceptions import RedisError

from lukhas_redis.errors import Unavailable
from lukhas_redis.transport.outcome import server_message
from lukhas_redis.transport.routes import ClusterRoutes, Routes, SentinelRoutes, SingleRoute
from lukhas_redis.transport.steps import Node, NotSent

if TYPE_CHECKING:
    from lukhas_redis.settings import Settings

LIBRARY_NAME = "lukhas-redis"
# Of a client that is given without a timeout of its own.
DEFAULT_REPLY_SECONDS = 5.0
# What redis-py's clients and pools put among the options of their connections for their own use, and what we set.
_NOT_OURS = frozenset(
    {
        "host", "port", "path", "retry", "retry_on_timeout", "retry_on_error", "connection_pool", "event_dispatcher",
        "himport_registry", "health_check_interval", "protocol", "legacy_responses", "redis_connect_func",
        "cache", "cache_config", "decode_responses", "encoding", "encoding_errors", "parser_class", "encoder_class",
        "lib_name", "lib_version", "driver_info", "ssl", "connection_class", "max_connections", "timeout",
        "response_callbacks", "oss_cluster_maint_notifications_handler",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Everything needed to reach the servers: the kind of topology, where to begin, and connection options."""

    mode: str
    seeds: tuple[Node, ...]
    service: str = ""
    tls: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    sentinel_tls: bool = False
    sentinel_options: Mapping[str, Any] = field(default_factory=dict)
    max_connections: int = 32

    def routes(self, check_interval_seconds: float) -> Routes:
        """A fresh topology, knowing nothing but the seeds."""
        if self.mode == "sentinel":
            return SentinelRoutes(self.seeds, self.service, check_interval_seconds)
        if self.mode == "cluster":
            return ClusterRoutes(self.seeds)
        return SingleRoute(self.seeds[0])

    def secure(self, node: Node) -> bool:
        """Whether connections to a node are encrypted."""
        return not node.path and (self.sentinel_tls if node.role == "sentinel" else self.tls)

    @property
    def reply_seconds(self) -> float:
        """Longest wait for one reply."""
        return float(self.options.get("socket_timeout") or DEFAULT_REPLY_SECONDS)

    @property
    def connect_seconds(self) -> float:
        """Deadline of opening a connection."""
        return float(self.options.get("socket_connect_timeout") or self.reply_seconds)

    def arguments(self, node: Node, seconds: float) -> dict[str, Any]:
        """The arguments of a redis-py connection to a node, opened within about `seconds`.

        `retry` is left to the shell, as its class differs.
        """
        times = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
        place: dict[str, Any] = {"path": node.path} if node.path else {"host": node.host, "port": node.port}
        options = self.sentinel_options if node.role == "sentinel" else self.options
        return {**options, **times, **place, "protocol": 2, "driver_info": _driver()}


def own_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """What of a redis-py client's connection options is meant for the server and not for redis-py's machinery."""
    return {
        name: value
        for name, value in options.items()
        if name not in _NOT_OURS and not name.startswith(("maint", "orig_")) and value is not None
    }


def limits(settings: Settings) -> dict[str, Any]:
    """The connection options that settings give."""
    return {
        "socket_timeout": settings.socket_timeout_seconds,
        "socket_connect_timeout": settings.connect_timeout_seconds,
        "client_name": client_name(settings.client_name),
    }


def client_name(wanted: str | None) -> str:
    """What the server lists a connection as: `lukhas:<name or host>:<pid>`; spaces are not allowed there."""
    name = re.sub(r"[^!-~]", "-", wanted or socket.gethostname() or "host")
    return f"lukhas:{name}:{os.getpid()}"


@cache
def _driver() -> DriverInfo:
    """Servers list a connection as `redis-py(lukhas-redis_v0.1.0)`, the form other drivers use as well."""
    return DriverInfo().add_upstream_driver(LIBRARY_NAME, version(LIBRARY_NAME))


def unconnected(node: Node, error: Exception) -> NotSent:
    """The outcome of a connection that could not be opened: nothing was sent."""
    said = server_message(error) if isinstance(error, RedisError) else ""
    return NotSent(f"cannot connect to {node}: {str(error) or type(error).__name__}", said)


def closed_meanwhile() -> NotSent:
    """The outcome of an exchange after `close()`: nothing was sent, and trying again would undo the close."""
    reason = "the transport was closed"
    return NotSent(reason, error=Unavailable(f"not applied: {reason}", reason=reason))
