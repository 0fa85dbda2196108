"""The agent runs to preserve: message lists as coding agents leave them.

What belongs here: finding and reading them. What does not: what is stored of them (see `sessions`).
Invariant: every conversation has an opening of two messages and at least one more, each a dict.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RECORDED_RUNS = Path("../shared/data/agent_trajectories")
SHIPPED = Path(__file__).parent / "data"
OPENING = 2  # the system prompt and the task


@dataclass(frozen=True)
class Conversation:
    """One agent run: the file it was read from and its messages, oldest first."""

    path: Path
    messages: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """The name of the file, without its ending."""
        return self.path.stem

    @property
    def turns(self) -> int:
        """How many messages come after the opening, one a turn."""
        return len(self.messages) - OPENING


def find_conversations(recorded: Path = RECORDED_RUNS) -> list[Conversation]:
    """The recorded runs beside the current directory, longest first, else the conversation this package ships."""
    found = [run for path in sorted(recorded.glob("*.json")) for run in _usable(path)]
    shipped = [run for path in sorted(SHIPPED.glob("*.json")) for run in _usable(path)]
    return sorted(found or shipped, key=lambda run: (-run.turns, run.name))


def read_conversation(path: Path) -> Conversation:
    """The message list under the key `history` of a JSON file.

    Raises:
        OSError, ValueError: It cannot be read, or is no run of at least three messages. A retry does not help.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    messages = document.get("history") if isinstance(document, dict) else None
    if not isinstance(messages, list) or len(messages) <= OPENING or not all(isinstance(m, dict) for m in messages):
        raise ValueError(f"{path}: no list of at least {OPENING + 1} messages under the key history")
    return Conversation(path, tuple(messages))


def _usable(path: Path) -> Iterator[Conversation]:
    try:
        yield read_conversation(path)
    except (OSError, ValueError):
        return  # somebody else's file in that folder is no reason not to show the demo
