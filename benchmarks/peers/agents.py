"""The session of OpenAI's Agents SDK: a Redis list of JSON items.

What belongs here: how its documentation says to use it. What does not: measuring.
Invariant: it has no notion of an owner, so nothing is written for a handoff.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import redis.asyncio

from benchmarks.optional import needed
from benchmarks.peers.side import OWNERS, TTL_SECONDS, Message, Side
from lukhas_redis.testing import RunningServer


class AgentsSession(Side):
    """`RedisSession`: `add_items` and `get_items`, with one client for each worker."""

    name: ClassVar[str] = "openai-agents RedisSession"
    package: ClassVar[str] = "openai-agents"
    commands: ClassVar[tuple[str, ...] | None] = ("watch", "unwatch", "type", "time", "multi", "exec", "lrange")
    keys: ClassVar[tuple[str, ...]] = ("agents:*",)
    atomic: ClassVar[str] = "yes (WATCH, MULTI)"
    versions: ClassVar[bool] = False
    handoff: ClassVar[str] = "none"

    def __init__(self, make: Any, clients: list[Any]) -> None:
        self._make, self._clients = make, clients
        self._sessions: dict[tuple[int, str], Any] = {}

    @classmethod
    async def open(cls, server: RunningServer) -> Self:
        """Two workers, connected."""
        module = needed("agents.extensions.memory.redis_session", cls.package)
        return cls(module.RedisSession, [redis.asyncio.Redis.from_url(server.url) for _ in OWNERS])

    async def pass_on(self, worker: int, run: str, turn: int, message: Message) -> None:  # noqa: ARG002 - the interface
        """Add the message."""
        await self._session(worker, run).add_items([message])

    async def read(self, worker: int, run: str) -> list[Message]:
        """All items."""
        items: list[Message] = await self._session(worker, run).get_items()
        return items

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.aclose()

    def _session(self, worker: int, run: str) -> Any:
        known = self._sessions.get((worker, run))
        if known is None:
            client = self._clients[worker]
            known = self._make(run, redis_client=client, key_prefix="agents:session", ttl=TTL_SECONDS)
            self._sessions[worker, run] = known
        return known
