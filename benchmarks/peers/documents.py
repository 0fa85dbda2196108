"""Sides that write the whole state as one value: read it, change it, write it back.

What belongs here: that pattern, and one class for each library used so. What does not: sides that add to a list.
Invariant: the worker that acts writes what it read at the end of the turn before, with the message and the new owner in
it, in one SET: no side reads once more, and none looks whether somebody else wrote meanwhile.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from typing import Any, ClassVar, Self, TypeAlias

import redis.asyncio

from benchmarks.optional import needed
from benchmarks.peers.side import OWNERS, TTL_SECONDS, Message, Side
from lukhas_redis.testing import RunningServer

Document: TypeAlias = dict[str, Any]


class Whole(Side):
    """What the sides of this kind have in common; each worker keeps the state it read last."""

    atomic: ClassVar[str] = "one key, last writer wins"
    versions: ClassVar[bool] = False
    handoff: ClassVar[str] = "a field"

    def __init__(self, workers: list[Any]) -> None:
        self.workers = workers
        self._read: list[Document] = [{} for _ in OWNERS]

    @abstractmethod
    async def get(self, worker: int, key: str) -> Document:
        """The state under a key."""

    @abstractmethod
    async def set(self, worker: int, key: str, document: Document) -> None:
        """Keep the state under a key."""

    async def pass_on(self, worker: int, run: str, turn: int, message: Message) -> None:
        """Write the whole with one message more and the other owner."""
        history = self._read[worker]["history"] if turn else []
        document = {"run": run, "owner": OWNERS[1 - worker], "history": [*history, message]}
        await self.set(worker, run, document)

    async def read(self, worker: int, run: str) -> list[Message]:
        """Read the whole."""
        document = self._read[worker] = await self.get(worker, run)
        history: list[Message] = document["history"]
        return history


class RedisPy(Whole):
    """redis-py and json, as everybody would write it first."""

    name: ClassVar[str] = "redis-py + json"
    package: ClassVar[str] = "redis"
    keys: ClassVar[tuple[str, ...]] = ("plain:*",)

    @classmethod
    async def open(cls, server: RunningServer) -> Self:
        """Two workers, connected."""
        return cls([redis.asyncio.Redis.from_url(server.url) for _ in OWNERS])

    async def get(self, worker: int, key: str) -> Document:
        """GET and json."""
        document: Document = json.loads(await self.workers[worker].get(f"plain:{key}"))
        return document

    async def set(self, worker: int, key: str, document: Document) -> None:
        """SET of json."""
        await self.workers[worker].set(f"plain:{key}", json.dumps(document), ex=TTL_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        for client in self.workers:
            await client.aclose()


class Aiocache(Whole):
    """`Cache(Cache.REDIS)` with its JsonSerializer."""

    name: ClassVar[str] = "aiocache"
    package: ClassVar[str] = "aiocache"
    keys: ClassVar[tuple[str, ...]] = ("aiocache:*",)

    @classmethod
    async def open(cls, server: RunningServer) -> Self:
        """Two workers, connected."""
        aiocache = needed("aiocache", cls.package)
        serializers = needed("aiocache.serializers", cls.package)
        place = {"endpoint": server.host, "port": server.port, "namespace": "aiocache:"}
        make, kind = aiocache.Cache, aiocache.Cache.REDIS
        return cls([make(kind, serializer=serializers.JsonSerializer(), **place) for _ in OWNERS])

    async def get(self, worker: int, key: str) -> Document:
        """`get`."""
        document: Document = await self.workers[worker].get(key)
        return document

    async def set(self, worker: int, key: str, document: Document) -> None:
        """`set` with a ttl."""
        await self.workers[worker].set(key, document, ttl=TTL_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        for cache in self.workers:
            await cache.close()


class Cashews(Whole):
    """A `Cache` set up with a URL; it pickles."""

    name: ClassVar[str] = "cashews"
    package: ClassVar[str] = "cashews"
    keys: ClassVar[tuple[str, ...]] = ("plaincashews:*",)
    prefix: ClassVar[str] = "plaincashews:"
    options: ClassVar[dict[str, Any]] = {}

    @classmethod
    async def open(cls, server: RunningServer) -> Self:
        """Two workers, connected."""
        cashews = needed("cashews", cls.package)
        caches = []
        for _ in OWNERS:
            cache = cashews.Cache()
            cache.setup(server.url, **cls.options)
            await cache.init()
            caches.append(cache)
        return cls(caches)

    async def get(self, worker: int, key: str) -> Document:
        """`get`."""
        document: Document = await self.workers[worker].get(self.prefix + key)
        return document

    async def set(self, worker: int, key: str, document: Document) -> None:
        """`set` that expires."""
        await self.workers[worker].set(self.prefix + key, document, expire=TTL_SECONDS)

    async def close(self) -> None:
        """Close the connections."""
        for cache in self.workers:
            await cache.close()


class CashewsNear(Cashews):
    """The same with its client-side cache, which the server tells of changes after they were made.

    In RESP2: in RESP3, the default of redis-py 8, cashews 7.6 never hears of a change and serves old states for ever.
    """

    name: ClassVar[str] = "cashews, client side"
    keys: ClassVar[tuple[str, ...]] = ("nearcashews:*",)
    prefix: ClassVar[str] = ""
    options: ClassVar[dict[str, Any]] = {"client_side": True, "client_side_prefix": "nearcashews:", "protocol": 2}
