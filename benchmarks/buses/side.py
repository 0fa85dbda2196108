"""What a way to pass events on must be able to do to be measured.

What belongs here: the interface, what is said of a side, the event that all of them carry. What does not: any side.
Invariant: only the standard library is imported before a side is opened, so it may run on an interpreter of its own.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

Payload: TypeAlias = dict[str, Any]
Handle: TypeAlias = Callable[[Payload], None]
EVENT_BYTES = 200
_AT = 10**15


@dataclass(frozen=True, slots=True)
class Guarantees:
    """What a side does as it is measured, in a word or two each.

    `ack`: when an event counts as done. `recovery`: what becomes of the events of a worker that died. `priorities`;
    `ordering`: of events that belong together. `dead_letters`: where events go that cannot be handled. `effect`:
    whether a change in Redis can be one step with the end of the event.
    """

    ack: str
    recovery: str
    priorities: str
    ordering: str
    dead_letters: str
    effect: str


class BusSide(ABC):
    """One way to pass events on. One object is either the emitter or the worker, each in a process of its own.

    `package` is what it needs. `python`: the environment variable that names an interpreter which has it, where it
    cannot be installed beside this package. `poll_seconds`: how often its worker looks, where it is not told.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    said: ClassVar[Guarantees]
    python: ClassVar[str] = ""
    poll_seconds: ClassVar[float] = 0.0

    def __init__(self, url: str) -> None:
        self.url = url

    @abstractmethod
    async def prepare(self) -> None:
        """In the worker, before anything is emitted: from now on no event is missed.

        Raises:
            AbsentError: The package is missing, or the server lacks what it needs.
        """

    @abstractmethod
    async def open(self) -> None:
        """In the emitter: connect.

        Raises:
            AbsentError: The package is missing.
        """

    @abstractmethod
    async def emit(self, payload: Payload, priority: str = "normal") -> None:
        """In the emitter: pass an event on; sides that know no priorities pass over that."""

    @abstractmethod
    async def work(self, handle: Handle, concurrency: int) -> None:
        """In the worker: call `handle` for every event, up to `concurrency` at once, until cancelled."""

    @abstractmethod
    async def unfinished(self) -> int:
        """In the worker: how many events the server still counts as not done."""


def payload(phase: str, number: int, at: int = _AT) -> Payload:
    """An event that is 200 bytes of JSON; `at` is the emitter's clock, which all processes of a machine share."""
    made = {"phase": phase, "n": number, "at": at, "text": ""}
    made["text"] = "x" * (EVENT_BYTES - len(json.dumps(made)))
    return made
