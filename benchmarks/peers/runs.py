"""The recorded agent runs that are raced: where they are, and which of them.

What belongs here: finding and reading them. What does not: racing. Invariant: a message is what the recording holds of
one turn, whole and in its order.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.side import Message
from benchmarks.places import ROOT

FOLDER = ROOT.parent / "shared" / "data" / "agent_trajectories"
SHIPPED = ROOT / "lukhas_redis" / "demo" / "data"
MIN_TURNS = 28


@dataclass(frozen=True, slots=True)
class Run:
    """One run; `messages` has one message for each turn."""

    name: str
    messages: list[Message]

    @property
    def key(self) -> str:
        """The name as part of a key or session id."""
        return self.name.replace(" ", "-")

    @property
    def json_bytes(self) -> int:
        """Length of all messages as JSON: what the state has grown to after the last turn."""
        return len(json.dumps(self.messages))


def recorded(folder: Path = FOLDER) -> list[Run]:
    """The runs in `folder` of 28 turns or more, and all of its runs one after the other as one long session.

    Without the folder (it is not shipped): the one run that the package's demo shows.
    """
    found = [_read(path) for path in sorted(folder.glob("*.json"))]
    if not found:
        return [_read(path) for path in sorted(SHIPPED.glob("*.json"))[:1]]
    long = Run(f"all {len(found)} runs in one session", [message for run in found for message in run.messages])
    return [*(run for run in found if len(run.messages) >= MIN_TURNS), *([long] if len(found) > 1 else [])]


def _read(path: Path) -> Run:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Run(path.stem, document["history"])
