"""What a worker process is told when it is started; everything later it learns from the store.

What belongs here: the plan and its way through a pipe, and the settings all processes of the demo share. What does
not: carrying it out (see `worker`).
Invariant: a plan goes through standard input, never the command line: its URL may hold a password.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lukhas_redis.demo.conversations import read_conversation
from lukhas_redis.demo.sessions import Session
from lukhas_redis.settings import Settings

MAX_REPORTS = 60
READY_REPORT = 2  # a worker that has written this many is warm and waits for turns


@dataclass(frozen=True)
class Plan:
    """One worker's orders.

    `runs` are (context id, path of the conversation) by number; `report_id` the context it reports in. `stuck_at` is
    (run, turn) where this worker stands still until it is killed, or None. `deadline_seconds` bounds its life.
    `parent` is the process it must not outlive; `own` the directories of a server that is to end with the demo, its
    state directory first; empty when there is none.
    """

    url: str
    tenant: str
    provider: str
    runs: list[tuple[str, str]]
    report_id: str
    stuck_at: tuple[int, int] | None
    deadline_seconds: float
    parent: int
    own: list[str]

    def to_json(self) -> str:
        """The plan as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """The plan that was made into `text`."""
        known: dict[str, Any] = json.loads(text)
        known["runs"] = [(context_id, path) for context_id, path in known["runs"]]
        known["stuck_at"] = tuple(known["stuck_at"]) if known["stuck_at"] else None
        return cls(**known)

    def sessions(self) -> list[Session]:
        """The runs, with their conversations read."""
        known = {path: read_conversation(Path(path)) for _, path in self.runs}
        return [Session(number, known[path], context_id) for number, (context_id, path) in enumerate(self.runs)]


def demo_settings(url: str, tenant: str) -> Settings:
    """The user's settings, less whatever would keep the demo from showing what it is for.

    Raises:
        InvalidArgument: The user's own settings are invalid. A retry does not help.
    """
    return Settings.load(
        url=url,
        tenant=tenant,
        shards=1,
        initial_mode="live",
        durability="memory",
        max_memory_store_entries=5000,
        max_tenant_bytes=0,
        max_context_throughput_mbps=0,
        event_window_entries=10_000,
        metrics=False,
    )


def report_request_id(provider: str, number: int) -> str:
    """The name of a worker's `number`-th report."""
    return f"report.{provider}.{number}"
