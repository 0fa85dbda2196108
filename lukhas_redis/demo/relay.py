"""The relay itself, as the parent process sees it: workers start, runs open, one worker is killed, all runs end.

What belongs here: the order of events and their bounds in time. What does not: judging the outcome (`evidence`).
Invariant: when `run` returns or raises, no worker runs; the parent writes no turn.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic, sleep

from lukhas_redis.demo.board import PAGE, Board
from lukhas_redis.demo.crew import Crew
from lukhas_redis.demo.place import Place
from lukhas_redis.demo.plan import READY_REPORT, Plan
from lukhas_redis.demo.screen import Screen
from lukhas_redis.demo.sessions import PROVIDERS, USER, Session, half_done, turn_of
from lukhas_redis.store import ContextStore

POLL_SECONDS = 0.02
START_SECONDS = 10.0
RELAY_SECONDS = 15.0
END_SECONDS = 3.0


class RelayError(Exception):
    """The relay did not come to its end; the message says where it stopped and what the workers said."""


@dataclass
class Relay:
    """One run of the demo: its place, its sessions and who is to be killed where (run, turn)."""

    place: Place
    store: ContextStore
    sessions: list[Session]
    report_ids: dict[str, str]
    stuck_at: tuple[int, int]
    screen: Screen
    board: Board = field(default_factory=Board)
    killed: bool = False
    pids: dict[str, int] = field(default_factory=dict)

    @property
    def victim(self) -> str:
        """The provider whose worker is killed."""
        run, turn = self.stuck_at
        return self.sessions[run].provider(turn)

    @property
    def turns(self) -> int:
        """The turns of all runs."""
        return sum(session.turns for session in self.sessions)

    def run(self) -> dict[str, int]:
        """Let the workers do all turns; returns their exit codes.

        Raises:
            RelayError: A worker failed or time was up.
            LukhasRedisError: The store could not be asked.
        """
        crew = Crew(self.place.directory)
        try:
            self._start(crew)
            self._open()
            self._watch(crew)
            return crew.wait(END_SECONDS)
        finally:
            crew.end()

    def _start(self, crew: Crew) -> None:
        """Start all workers and wait until each has reported for work in the store."""
        for provider in PROVIDERS:
            crew.start(self._plan(provider))
        self.pids = dict(crew.pids)
        self.screen.line("  workers    " + ", ".join(f"{name} {pid}" for name, pid in self.pids.items()))
        self._until(crew, self._missing, START_SECONDS, lambda: f"{4 - self._missing()} of 4 workers are ready")

    def _plan(self, provider: str) -> Plan:
        return Plan(
            url=self.place.url,
            tenant=self.place.tenant,
            provider=provider,
            runs=[(one.context_id, str(one.conversation.path.resolve())) for one in self.sessions],
            report_id=self.report_ids[provider],
            stuck_at=self.stuck_at if provider == self.victim else None,
            deadline_seconds=START_SECONDS + RELAY_SECONDS,
            parent=os.getpid(),
            own=[str(one) for one in self.place.directories] if self.place.own else [],
        )

    def _open(self) -> None:
        """The user's part: store the opening of each run and hand it to the first provider."""
        for session in self.sessions:
            self.store.preserve(
                session.session_id,
                session.opening(),
                context_id=session.context_id,
                if_version=0,
                request_id=session.request_id(0, "preserve"),
            )
            self.store.handoff(
                session.context_id,
                USER,
                session.provider(1),
                if_version=1,
                metadata={"turn": 0, "by": USER},
                request_id=session.request_id(0, "handoff"),
            )

    def _watch(self, crew: Crew) -> None:
        self._until(crew, lambda: self._left(crew), RELAY_SECONDS, self._standing)

    def _left(self, crew: Crew) -> int:
        """How many turns are to be done; on the way, kills the victim in the middle of its turn."""
        run, turn = self.stuck_at
        at = self.board.version(self.sessions[run].context_id)
        if not self.killed and turn_of(at) == turn and half_done(at):
            crew.kill(self.victim)
            self.killed = True
            self._tell_of_the_kill()
        return self.turns - self._done()

    def _tell_of_the_kill(self) -> None:
        run, turn = self.stuck_at
        word, who = self.screen.styled("kill -9", "bad"), f"{self.victim} ({self.pids[self.victim]})"
        self.screen.line(f"  {word}    {who} in the middle of turn {turn} of run {run}")

    def _done(self) -> int:
        """Turns whose handoff is done."""
        versions = (self.board.version(session.context_id) for session in self.sessions)
        return sum(max(0, turn_of(version) - 1) for version in versions)

    def _missing(self) -> int:
        return sum(1 for report_id in self.report_ids.values() if self.board.version(report_id) < READY_REPORT)

    def _standing(self) -> str:
        return f"{self._done()} of {self.turns} turns, {len(self.sessions)} runs at once"

    def _until(self, crew: Crew, left: Callable[[], int], seconds: float, say: Callable[[], str]) -> None:
        """Follow the store's events until nothing is left."""
        deadline, total = monotonic() + seconds, max(1, left())
        while True:
            self.board.note(self.store.events(after=self.board.after, count=PAGE), monotonic())
            remaining = left()
            self.screen.progress(total - remaining, total, say())
            if not remaining:
                return
            self._require_crew(crew)
            if monotonic() > deadline:
                raise RelayError(f"after {seconds:.0f} s: {say()}; " + self._last_words(crew))
            sleep(POLL_SECONDS)

    def _require_crew(self, crew: Crew) -> None:
        for provider, code in crew.exit_codes().items():
            if code != 0 and not (self.killed and provider == self.victim):
                raise RelayError(f"worker {provider} ended with {code}: {crew.log(provider)}")

    def _last_words(self, crew: Crew) -> str:
        logs = [f"{provider}: {log}" for provider in PROVIDERS if (log := crew.log(provider))]
        return "\n".join(logs) or "no worker said why"
