"""LangGraph's checkpoint saver for Redis, the shallow one: it keeps the newest state of a thread only.

What belongs here: how its documentation says to use a saver without a graph. What does not: measuring.
Invariant: it runs only where the server has the JSON and search modules; elsewhere it says so.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any, ClassVar, Self

import redis

from benchmarks.optional import AbsentError, needed
from benchmarks.peers.side import OWNERS, TTL_SECONDS, Message, Side
from lukhas_redis.testing import RunningServer

# Harmless where they are known.
_NEEDED = (("JSON.GET", "no-such-key"), ("FT._LIST",))


class LanggraphSaver(Side):
    """`AsyncShallowRedisSaver`: `aput` of a checkpoint whose one channel is the messages, and `aget`."""

    name: ClassVar[str] = "langgraph-checkpoint-redis"
    package: ClassVar[str] = "langgraph-checkpoint-redis"
    keys: ClassVar[tuple[str, ...]] = ("checkpoint*", "write_keys*")
    atomic: ClassVar[str] = "one document; TTL apart"
    versions: ClassVar[bool] = False
    handoff: ClassVar[str] = "metadata"

    def __init__(self, savers: list[Any], empty: Any, stack: AsyncExitStack) -> None:
        self._savers, self._empty, self._stack = savers, empty, stack
        self._read: list[list[Message]] = [[] for _ in OWNERS]

    @classmethod
    async def open(cls, server: RunningServer) -> Self:
        """Two workers, connected."""
        module = needed("langgraph.checkpoint.redis.ashallow", cls.package)
        empty = needed("langgraph.checkpoint.base", "langgraph-checkpoint").empty_checkpoint
        _require_modules(server)
        stack, savers = AsyncExitStack(), []
        for _ in OWNERS:
            saver = module.AsyncShallowRedisSaver(server.url, ttl={"default_ttl": TTL_SECONDS / 60})
            savers.append(await stack.enter_async_context(saver))
            await savers[-1].asetup()
        return cls(savers, empty, stack)

    async def pass_on(self, worker: int, run: str, turn: int, message: Message) -> None:
        """Put a checkpoint with one message more."""
        messages = [*(self._read[worker] if turn else []), message]
        versions = {"messages": turn + 1}
        checkpoint = {**self._empty(), "channel_values": {"messages": messages}, "channel_versions": versions}
        metadata = {"source": "loop", "step": turn, "writes": {}, "parents": {}, "owner": OWNERS[1 - worker]}
        await self._savers[worker].aput(_config(run), checkpoint, metadata, versions)

    async def read(self, worker: int, run: str) -> list[Message]:
        """Get the checkpoint."""
        checkpoint = await self._savers[worker].aget(_config(run))
        messages: list[Message] = checkpoint["channel_values"]["messages"]
        self._read[worker] = messages
        return messages

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()


def _config(run: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": run, "checkpoint_ns": ""}}


def _require_modules(server: RunningServer) -> None:
    for words in _NEEDED:
        try:
            server.command(*words)
        except redis.ResponseError as error:
            raise AbsentError(f"skipped: the server has no {words[0]}") from error
