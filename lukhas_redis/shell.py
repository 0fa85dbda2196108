"""What the two stores share: settings, the tenant's space, measuring, and how a method is made of an operation.

What belongs here: everything about a store that does not wait. What does not: waiting (`store`, `aio`).
Invariant: a method has the name, the arguments and the docstring of its operation, in both stores.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from time import perf_counter
from typing import Any, Self, TypeVar

from lukhas_redis.errors import InvalidArgument, Unavailable
from lukhas_redis.models import Handoff
from lukhas_redis.ops.space import Space
from lukhas_redis.settings import Settings, mask_url
from lukhas_redis.telemetry import Telemetry
from lukhas_redis.transport.world import ServerInfo

T = TypeVar("T")


class Shell:
    """A store without its transport."""

    def __init__(self, target: Any, *, tenant: str | None = None, settings: Settings | None = None) -> None:
        self.settings = settings if settings is not None else Settings.load()
        self._target = target
        self._space = Space(self.settings, mint, tenant if tenant is not None else self.settings.tenant)
        self._telemetry = Telemetry.of(self.settings)

    @classmethod
    def connect(cls, url: str | None = None, *, tenant: str | None = None, settings: Settings | None = None) -> Self:
        """A store for the server at `url`, else `LUKHAS_URL`, else an embedded one; returns at once.

        Connects and checks the server on first use, or at `ready`. `tenant`: a name (default "default").

        Raises:
            InvalidArgument, InvalidId: The URL is no text or the tenant no name. A retry cannot help.
        """
        known = settings if settings is not None else Settings.load()
        return cls(connect_target(url, known), tenant=tenant, settings=known)

    @property
    def tenant(self) -> str:
        """The tenant this store works for."""
        return self._space.tenant

    @property
    def space(self) -> Space:
        """Where the tenant's contexts are, as this store knows it; operations (`ops`) are given it."""
        return self._space

    @property
    def resets(self) -> int:
        """How often the server came back without its data since this store was made."""
        return self._space.resets

    def __repr__(self) -> str:
        """Name the server and the tenant, never a password."""
        target = mask_url(self._target) if isinstance(self._target, str) else type(self._target).__name__
        return f"{type(self).__name__}({target or 'embedded'}, tenant={self.tenant!r})"

    @staticmethod
    def _server(found: ServerInfo | None) -> ServerInfo:
        if found is None:
            raise Unavailable("the store was closed while it connected")
        return found

    def _finished(self, name: str, started: float, result: T) -> T:
        """Measure a call that succeeded; a handoff is told how long it took."""
        seconds = perf_counter() - started
        if isinstance(result, Handoff) and not result.dry_run:
            self._space.hop_took(result.context_id, seconds * 1000)
            # It was made for this call and nobody has it yet: `replace` would cost as much as to make it.
            object.__setattr__(result, "latency_ms", seconds * 1000)
        self._telemetry.succeeded(name, self._space, result, seconds)
        return result

    def _failed(self, name: str, started: float, error: BaseException, *, dry_run: bool) -> None:
        self._telemetry.failed(name, self._space, error, perf_counter() - started, dry_run=dry_run)


def mint() -> str:
    """32 hex digits of randomness; safe after a fork, unlike a seeded generator."""
    return os.urandom(16).hex()


def connect_target(url: str | None, settings: Settings) -> str | None:
    """The server's URL: the argument, else the settings; None stands for the embedded server.

    Raises:
        InvalidArgument: The URL is no text. A retry cannot help.
    """
    chosen = url if url is not None else settings.url
    if chosen is not None and not isinstance(chosen, str):
        raise InvalidArgument(f"url must be text such as redis://localhost:6379, not {type(chosen).__name__}")
    return chosen or None


def dress(method: Any, op: Callable[..., Any]) -> None:
    """Give a method the name, signature and docstring of its operation, with `self` in place of the space."""
    signature = inspect.signature(op)
    first, *others = signature.parameters.values()
    method.__name__ = op.__name__
    method.__doc__ = op.__doc__
    method.__signature__ = signature.replace(parameters=[first.replace(name="self", annotation=first.empty), *others])
