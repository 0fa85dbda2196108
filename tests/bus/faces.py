"""The sync bus behind the face of the other, so that tests of what both do are written once.

What belongs here: making it awaitable. What does not: fixtures (see `conftest`).
Invariant: nothing is changed on the way but the waiting.
"""

from __future__ import annotations

import asyncio
from typing import Any

from lukhas_redis.bus import ContextBus


class InThread:
    """A sync bus, and its store, whose methods run in a thread and can be awaited."""

    def __init__(self, inner: ContextBus | Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name == "store":
            return InThread(found)
        if not callable(found):
            return found

        async def method(*args: Any, **kwargs: Any) -> Any:
            return await asyncio.to_thread(found, *args, **kwargs)

        return method
