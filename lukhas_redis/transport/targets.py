"""What a store is connected to: a URL or a redis-py client, turned into a plan.

What belongs here: reading addresses and options out of redis-py clients. What does not: reading URLs (`address`).
Invariant: of a client only its address, credentials, TLS and timeouts are used; its pool and its retries are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio as aio
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.asyncio.connection import UnixDomainSocketConnection as AsyncUnixConnection
from redis.asyncio.sentinel import SentinelConnectionPool as AsyncSentinelPool
from redis.connection import SSLConnection, UnixDomainSocketConnection
from redis.sentinel import SentinelConnectionPool

from lukhas_redis.errors import InvalidArgument
from lukhas_redis.transport.address import plan_of
from lukhas_redis.transport.dialing import Plan, limits, own_options
from lukhas_redis.transport.steps import Node

if TYPE_CHECKING:
    from lukhas_redis.settings import Settings


def plan_for(target: Any, settings: Settings) -> Plan:
    """The plan for a URL or a redis-py client.

    Raises:
        InvalidArgument: It is neither, or the client decodes replies. A retry cannot help.
    """
    if isinstance(target, str):
        return plan_of(target, settings)
    if isinstance(target, redis.RedisCluster | aio.RedisCluster):
        return _of_cluster(target, settings)
    if isinstance(target, redis.Redis | aio.Redis):
        pool: Any = target.connection_pool
        if isinstance(pool, SentinelConnectionPool | AsyncSentinelPool):
            return _of_sentinel(pool, settings)
        return _of_pool(pool, settings)
    raise InvalidArgument(f"a URL or a redis-py client is needed, not {type(target).__name__}", field="url")


def _of_pool(pool: Any, settings: Settings) -> Plan:
    options = pool.connection_kwargs
    tls = issubclass(pool.connection_class, SSLConnection | AsyncSSLConnection)
    if issubclass(pool.connection_class, UnixDomainSocketConnection | AsyncUnixConnection):
        node = Node("", 0, path=str(options["path"]))
    else:
        node = Node(str(options.get("host", "localhost")), int(options.get("port", 6379)))
    return Plan("single", (node,), tls=tls, options=_usable(options, settings), max_connections=pool.max_connections)


def _of_sentinel(pool: Any, settings: Settings) -> Plan:
    clients = [client.connection_pool for client in pool.sentinel_manager.sentinels]
    first = clients[0].connection_kwargs
    seeds = tuple(
        Node(str(each.connection_kwargs["host"]), int(each.connection_kwargs["port"]), role="sentinel")
        for each in clients
    )
    return Plan(
        "sentinel",
        seeds,
        service=str(pool.service_name),
        tls=issubclass(pool.connection_class, SSLConnection | AsyncSSLConnection),
        options=_usable(pool.connection_kwargs, settings),
        sentinel_tls=issubclass(clients[0].connection_class, SSLConnection | AsyncSSLConnection),
        sentinel_options=_usable(first, settings),
        max_connections=pool.max_connections,
    )


def _of_cluster(client: Any, settings: Settings) -> Plan:
    manager = client.nodes_manager
    options: Mapping[str, Any] = getattr(client, "connection_kwargs", None) or manager.connection_kwargs
    seeds = tuple(Node(str(node.host), int(node.port)) for node in manager.startup_nodes.values())
    tls = bool(options.get("ssl")) or _is_tls(options.get("connection_class"))
    return Plan("cluster", seeds, tls=tls, options=_usable(options, settings), max_connections=settings.max_connections)


def _is_tls(connection_class: Any) -> bool:
    return isinstance(connection_class, type) and issubclass(connection_class, SSLConnection | AsyncSSLConnection)


def _usable(options: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    if options.get("decode_responses"):
        raise InvalidArgument(
            "the client has decode_responses=True; contexts are bytes: make it with decode_responses=False",
            field="decode_responses",
        )
    return {**limits(settings), **own_options(options)}
