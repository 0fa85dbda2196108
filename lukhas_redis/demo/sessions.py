"""One agent run as a context: whose turn it is, what a turn adds, and what must be stored after each.

What belongs here: the rules of the relay, as pure functions. What does not: doing a turn (see `worker`).
Invariant: a version number alone says which turn is due and how far it is, so the store is all that workers share:
version 2t is "turn t is due", 2t + 1 is "its message is stored, the handoff is not done yet".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from lukhas_redis.demo.conversations import OPENING, Conversation

PROVIDERS = ("planner", "coder", "tester", "reviewer")
USER = "user"


@dataclass(frozen=True)
class Session:
    """One run of the demo: its number, its conversation, and the context that holds it."""

    number: int
    conversation: Conversation
    context_id: str

    @property
    def session_id(self) -> str:
        """The session's name in the store."""
        return f"run-{self.number}"

    @property
    def turns(self) -> int:
        """How many turns it takes."""
        return self.conversation.turns

    @property
    def last_version(self) -> int:
        """The version after the last handoff, back to the user."""
        return 2 * self.turns + 2

    def provider(self, turn: int) -> str:
        """Who does turn `turn` (1..turns); before and after them it is the user's."""
        return PROVIDERS[(self.number + turn - 1) % len(PROVIDERS)] if 1 <= turn <= self.turns else USER

    def message(self, turn: int) -> dict[str, Any]:
        """What turn `turn` adds."""
        return self.conversation.messages[OPENING + turn - 1]

    def request_id(self, turn: int, step: str) -> str:
        """The name of a write: the same for whoever does it, so that doing it twice does it once."""
        return f"run-{self.number}.turn-{turn}.{step}"

    def opening(self) -> dict[str, Any]:
        """The agent's state before the first turn."""
        return {
            "run": uuid5(NAMESPACE_URL, f"{self.number}/{self.conversation.name}"),
            "task": self.conversation.name,
            "started": datetime(2026, 1, 5, 9, self.number % 60, 30, 250_000, tzinfo=UTC),
            "elapsed": timedelta(0),
            "budget": Decimal("5.00"),
            "crew": PROVIDERS,
            "roles": frozenset({"assistant", "tool", "user"}),
            "turn": 0,
            "messages": list(self.conversation.messages[:OPENING]),
        }

    def expected(self, turn: int) -> dict[str, Any]:
        """The agent's state after turn `turn`, made from the original alone."""
        return {
            **self.opening(),
            "elapsed": timedelta(seconds=40 * turn),
            "budget": Decimal("5.00") - Decimal("0.03") * turn,
            "turn": turn,
            "messages": list(self.conversation.messages[: OPENING + turn]),
        }


def advance(state: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
    """The state one turn later, made from what was restored and the message the provider adds."""
    return {
        **state,
        "elapsed": state["elapsed"] + timedelta(seconds=40),
        "budget": state["budget"] - Decimal("0.03"),
        "turn": state["turn"] + 1,
        "messages": [*state["messages"], dict(message)],
    }


def turn_of(version: int) -> int:
    """The turn that is due or half done at `version`."""
    return version // 2


def half_done(version: int) -> bool:
    """Whether the turn's message is stored and its handoff is not done."""
    return version % 2 == 1
