"""What a way to keep an agent's state must be able to do to take part in the race.

What belongs here: the interface of a side, what is said of it. What does not: any side.
Invariant: the two workers of a side share nothing but the server: each has connections of its own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self, TypeAlias

from lukhas_redis.testing import RunningServer

Message: TypeAlias = dict[str, Any]
TTL_SECONDS = 3_600
OWNERS = ("alpha", "beta")


class Side(ABC):
    """One way to keep the state; `package` is what it needs, `commands` what its workers send.

    `commands`: None for every command; named where scripts or transactions run commands that are counted again.
    `keys`: patterns of all keys it makes. `atomic`: what of a turn's write is one step. `versions`: whether a writer
    can say which state it writes upon. `handoff`: how the next worker is named.
    """

    name: ClassVar[str]
    package: ClassVar[str]
    commands: ClassVar[tuple[str, ...] | None] = None
    keys: ClassVar[tuple[str, ...]]
    atomic: ClassVar[str]
    versions: ClassVar[bool]
    handoff: ClassVar[str]

    @classmethod
    @abstractmethod
    async def open(cls, server: RunningServer) -> Self:
        """Two workers, connected.

        Raises:
            AbsentError: The package is missing, or the server lacks what it needs.
        """

    @abstractmethod
    async def pass_on(self, worker: int, run: str, turn: int, message: Message) -> None:
        """Worker 0 or 1 adds the message of a turn to a run and hands the run over to the other one."""

    @abstractmethod
    async def read(self, worker: int, run: str) -> list[Message]:
        """The whole run so far, as the worker that acts next sees it."""

    @abstractmethod
    async def close(self) -> None:
        """Close the connections."""
