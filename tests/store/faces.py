"""The two stores behind one face, so that each test of the store is written once.

What belongs here: making the sync store awaitable. What does not: fixtures (see `conftest`).
Invariant: nothing is changed on the way but the waiting: arguments, results and errors are the store's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

from lukhas_redis import AsyncContextStore, ContextStore
from lukhas_redis.models import Metadata
from lukhas_redis.settings import Settings

FACES = ("sync", "async")


class InThread:
    """A sync store whose methods run in a thread and can be awaited."""

    def __init__(self, store: ContextStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        async def method(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(found, *args, **kwargs)

        return method

    async def list(self, **kwargs: Any) -> AsyncIterator[Metadata]:
        """All that the sync iterator gives."""
        for one in await asyncio.to_thread(lambda: list(self._store.list(**kwargs))):
            yield one


def connect(face: str, url: str, tenant: str, **changes: Any) -> AsyncContextStore:
    """A store of the given face; `changes` are settings."""
    settings = Settings(**changes)
    if face == "async":
        return AsyncContextStore.connect(url, tenant=tenant, settings=settings)
    return cast(AsyncContextStore, InThread(ContextStore.connect(url, tenant=tenant, settings=settings)))
