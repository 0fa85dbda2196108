"""Both shells behind one interface, so that a test is written once.

What belongs here: the adapters. What does not: tests. Invariant: `together` starts its operations at once and gives a
result or an error for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import pytest

from lukhas_redis.calls import Op
from lukhas_redis.settings import Settings
from lukhas_redis.transport import AsyncTransport, ServerInfo, SyncTransport


class SyncShell:
    """The synchronous transport; side by side means threads."""

    def __init__(self, target: Any, **settings: Any) -> None:
        self.transport = SyncTransport(target, Settings(**settings))

    def run(self, op: Op[Any]) -> Any:
        """Run one operation."""
        return self.transport.run(op)

    def together(self, ops: Iterable[Op[Any]]) -> list[Any]:
        """Run operations side by side."""
        with ThreadPoolExecutor(16) as threads:
            futures = [threads.submit(self.transport.run, op) for op in ops]
            return [future.exception() or future.result() for future in futures]

    def ready(self) -> ServerInfo | None:
        """Check the servers."""
        self.transport.ready()
        return self.transport.server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.transport.close()


class AsyncShell:
    """The asynchronous transport on an event loop of its own; side by side means tasks."""

    def __init__(self, target: Any, **settings: Any) -> None:
        self.transport = AsyncTransport(target, Settings(**settings))
        self._runner = asyncio.Runner()

    def run(self, op: Op[Any]) -> Any:
        """Run one operation."""
        return self._runner.run(self.transport.run(op))

    def together(self, ops: Iterable[Op[Any]]) -> list[Any]:
        """Run operations side by side."""
        return self._runner.run(self._gather(list(ops)))

    async def _gather(self, ops: list[Op[Any]]) -> list[Any]:
        return await asyncio.gather(*map(self.transport.run, ops), return_exceptions=True)

    def ready(self) -> ServerInfo | None:
        """Check the servers."""
        self._runner.run(self.transport.ready())
        return self.transport.server

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self.transport.close())
        self._runner.close()


Shell = SyncShell | AsyncShell
on_both_shells = pytest.mark.parametrize(
    "shell", [pytest.param(SyncShell, id="sync"), pytest.param(AsyncShell, id="async")]
)
