"""Handlers: what they are called with, and what their errors mean.

What belongs here: reading a handler's signature, making its arguments, judging its failure. What does not: running
it (`hands`).
Invariant: a payload that does not fit a handler's model never reaches the handler.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, get_type_hints

from pydantic import BaseModel, ValidationError

from lukhas_redis.bus.transactions import Transaction
from lukhas_redis.bus_models import BusEvent
from lukhas_redis.errors import InvalidArgument
from lukhas_redis.ops.bus.common import milliseconds

Handler = Callable[..., Awaitable[Any]]


class Reject(Exception):
    """Raised by a handler: the event can never be handled; it becomes a dead letter at once."""


class Retry(Exception):
    """Raised by a handler: handle the event again after `delay` (seconds or timedelta; None = the usual backoff).

    Raises:
        InvalidArgument: `delay` is no time span from 0 to a year; raised in a handler it counts as a failure of it.
    """

    def __init__(self, reason: str = "", *, delay: float | timedelta | None = None) -> None:
        super().__init__(reason)
        self.delay_ms = None if delay is None else milliseconds(delay, "delay")


@dataclass(frozen=True)
class Signature:
    """What a handler takes, in order: `event`, `tx`, or a pydantic model that the payload must fit."""

    handler: Handler
    takes: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The handler's name, as dead letters show it."""
        named = self.handler if hasattr(self.handler, "__qualname__") else type(self.handler)
        return f"{named.__module__}:{named.__qualname__}"

    def arguments(self, event: BusEvent, tx: Transaction) -> list[Any]:
        """What to call it with.

        Raises:
            ValidationError: The payload does not fit the model.
        """
        made: list[Any] = []
        for one in self.takes:
            if one == "event":
                made.append(event)
            elif one == "tx":
                made.append(tx)
            else:
                made.append(one.model_validate(event.payload))
        return made


def signature_of(handler: object) -> Signature:
    """Read what a handler takes: by annotation (`BusEvent`, `Transaction`, a pydantic model), else by place: event, tx.

    Raises:
        InvalidArgument: It is not an async function of one to three such arguments. A retry cannot help.
    """
    target = handler if inspect.isfunction(handler) or inspect.ismethod(handler) else getattr(handler, "__call__", None)  # noqa: B004
    if not inspect.iscoroutinefunction(target):
        raise InvalidArgument(f"handler {handler!r:.80} is not an async function")
    try:
        hints = get_type_hints(target)
    except Exception:  # noqa: BLE001 - annotations that cannot be resolved are as good as none
        hints = {}
    takes = [
        _taken(hints.get(one.name), one.name, place)
        for place, one in enumerate(inspect.signature(target).parameters.values())
        if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) and (place < 2 or one.default is one.empty)
    ]
    if not 1 <= len(takes) <= 3:
        raise InvalidArgument(f"handler {handler!r:.80} must take one to three arguments: event or model, and tx")
    return Signature(handler, tuple(takes))  # type: ignore[arg-type]


def _taken(hint: Any, name: str, place: int) -> Any:
    if hint is Transaction:
        return "tx"
    if hint is BusEvent:
        return "event"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return hint
    if name in ("tx", "transaction"):
        return "tx"
    return "event" if place == 0 or name == "event" else "tx"


@dataclass(frozen=True)
class Failure:
    """What a handler's error means: `final` = a dead letter at once; `delay_ms` None = the usual backoff.

    `counted` False: it is not the handler's, so the delivery does not count towards `max_deliveries`.
    """

    reason: str
    error: str
    final: bool = False
    delay_ms: int | None = None
    counted: bool = True


def judge(error: BaseException) -> Failure:
    """What follows from an error of a handler."""
    text = f"{type(error).__name__}: {error}"[:4000]
    if isinstance(error, Reject):
        return Failure("rejected", text, final=True)
    if isinstance(error, ValidationError):
        return Failure("payload", text, final=True)
    if isinstance(error, TimeoutError):
        return Failure("timeout", text)
    if isinstance(error, Retry):
        return Failure("retry", text, delay_ms=error.delay_ms)
    return Failure("error", text)


def refused(error: BaseException, longest_seconds: float) -> Failure:
    """What follows when a tenant has no room for what a handler did: later, as often as it takes."""
    text = f"{type(error).__name__}: {error}"[:4000]
    return Failure("refused", text, delay_ms=backoff_ms(1, longest_seconds, longest_seconds), counted=False)


def backoff_ms(deliveries: int, first_seconds: float, longest_seconds: float) -> int:
    """Doubling from the first wait to the longest, with half of it by chance, so that many do not come back at once."""
    longest = min(longest_seconds, first_seconds * 2 ** min(deliveries - 1, 30))
    return int(longest * 1000 * (0.5 + random.random() / 2))  # noqa: S311 - spreads load, keeps no secret
