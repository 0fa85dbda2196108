"""A worker process: does the turns of its provider, and those of a provider that has gone silent.

What belongs here: the loop of one worker and the steps of a turn. What does not: whose turn it is (`sessions`),
starting and killing workers (`crew`).
Invariant: workers share the store and nothing else; a turn done twice, by a slow worker and by the one that took over,
has the effect of one, as each write names its request and the version it is made against.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Awaitable
from time import monotonic, perf_counter
from typing import Any, TypeVar

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.demo.board import PAGE, Board
from lukhas_redis.demo.plan import MAX_REPORTS, Plan, demo_settings, report_request_id
from lukhas_redis.demo.sessions import PROVIDERS, USER, Session, advance, half_done, turn_of
from lukhas_redis.embedded import stop
from lukhas_redis.errors import RequestReused, VersionConflict
from lukhas_redis.models import Context

T = TypeVar("T")

POLL_SECONDS = 0.005
THINK_SECONDS = 0.04  # what a model would take for its answer, much shortened
PATIENCE_SECONDS = 0.5  # how long a run may stand still before the next provider in line takes over the turn
REPORT_SECONDS = 0.5
ORPHANED = 3


class Worker:
    """One provider at work on all runs at once."""

    def __init__(self, plan: Plan, store: AsyncContextStore) -> None:
        self.plan = plan
        self.store = store
        self.sessions = plan.sessions()
        self.board = Board()
        self.running: dict[str, asyncio.Task[None]] = {}
        self.handled: dict[str, int] = {}
        self.silent: set[str] = set()
        self.samples: dict[str, list[float]] = {"preserve": [], "restore": [], "handoff": []}
        self.turns = 0
        self.takeovers: list[tuple[int, int, str]] = []
        self.reports = 0

    async def work(self) -> None:
        """Report for work, do turns until all runs are done, report what was measured."""
        await self._warm_up()
        reported = started = monotonic()
        while not self._all_done():
            await self._look()
            if monotonic() - started > self.plan.deadline_seconds:
                raise TimeoutError(f"not done after {self.plan.deadline_seconds:.0f} s: {self.board.versions}")
            if monotonic() - reported > REPORT_SECONDS and self.reports < MAX_REPORTS - 1:
                reported = monotonic()
                await self._report(finished=False)
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.gather(*self.running.values())
        await self._report(finished=True)

    async def _warm_up(self) -> None:
        """One call of each kind on the worker's own report, so that no sample holds the loading of a script."""
        await self._report(finished=False)
        await self.store.restore(self.plan.report_id)
        await self.store.handoff(self.plan.report_id, self.plan.provider, self.plan.provider, dry_run=True)
        await self._report(finished=False)

    def _all_done(self) -> bool:
        return all(self.board.version(session.context_id) >= session.last_version for session in self.sessions)

    async def _look(self) -> None:
        """Read what has happened, take note of turns that ended, begin those that are due."""
        if os.getppid() != self.plan.parent:
            self._orphaned()
        self.board.note(await self.store.events(after=self.board.after, count=PAGE), monotonic())
        for context_id, task in list(self.running.items()):
            if task.done():
                del self.running[context_id]
                task.result()
        for session in self.sessions:
            turn = turn_of(self.board.version(session.context_id))
            if session.context_id in self.running or turn <= self.handled.get(session.context_id, 0):
                continue
            if self._is_mine(session, turn):
                self.handled[session.context_id] = turn
                self.running[session.context_id] = asyncio.create_task(self._turn(session, turn))

    def _is_mine(self, session: Session, turn: int) -> bool:
        """Whether to do this turn: it is ours, or its provider has been silent for longer than our place in line."""
        owner = session.provider(turn)
        if owner in (USER, self.plan.provider):
            return owner != USER
        place = (PROVIDERS.index(self.plan.provider) - PROVIDERS.index(owner)) % len(PROVIDERS)
        if place == 1 and owner in self.silent:
            return True
        return self.board.still_for(session.context_id, monotonic()) > PATIENCE_SECONDS * place

    async def _turn(self, session: Session, turn: int) -> None:
        owner = session.provider(turn)
        try:
            if not await self._pass_on(session, turn, owner):
                return
        except (VersionConflict, RequestReused):
            return  # somebody else did it meanwhile, nothing of ours was written
        self.turns += 1
        if owner != self.plan.provider:
            self.silent.add(owner)
            self.takeovers.append((session.number, turn, owner))

    async def _pass_on(self, session: Session, turn: int, owner: str) -> bool:
        """Restore, add the message, preserve, hand off; False when the run has moved on without us."""
        context = await self._timed("restore", self.store.restore(session.context_id))
        if turn_of(context.version) != turn:
            return False
        if context.metadata.owner != owner:
            raise AssertionError(f"run {session.number} turn {turn}: owner {context.metadata.owner}, not {owner}")
        if not half_done(context.version):
            await self._add_message(session, turn, context)
        if (session.number, turn) == self.plan.stuck_at:
            await asyncio.sleep(self.plan.deadline_seconds)  # the kill -9 comes here, in the middle of a turn
        await self._timed(
            "handoff",
            self.store.handoff(
                session.context_id,
                owner,
                session.provider(turn + 1),
                if_version=2 * turn + 1,
                metadata={"turn": turn, "by": self.plan.provider},
                request_id=session.request_id(turn, "handoff"),
            ),
        )
        return True

    async def _add_message(self, session: Session, turn: int, context: Context) -> None:
        await asyncio.sleep(THINK_SECONDS)
        await self._timed(
            "preserve",
            self.store.preserve(
                session.session_id,
                advance(context.data, session.message(turn)),
                context_id=session.context_id,
                if_version=2 * turn,
                request_id=session.request_id(turn, "preserve"),
            ),
        )

    async def _timed(self, name: str, call: Awaitable[T]) -> T:
        started = perf_counter()
        result = await call
        self.samples[name].append((perf_counter() - started) * 1000)
        return result

    async def _report(self, *, finished: bool) -> None:
        """Preserve what this worker has measured: the store is how the parent learns it, too."""
        self.reports += 1
        report: dict[str, Any] = {
            "provider": self.plan.provider,
            "finished": finished,
            "turns": self.turns,
            "takeovers": self.takeovers,
            "samples": self.samples,
        }
        await self.store.preserve(
            "reports",
            report,
            context_type="performance_data",
            context_id=self.plan.report_id,
            request_id=report_request_id(self.plan.provider, self.reports),
        )

    def _orphaned(self) -> None:
        """The parent is gone without a word: take its server along."""
        if self.plan.own:
            stop(state_dir=self.plan.own[0])
            for directory in self.plan.own:
                shutil.rmtree(directory, ignore_errors=True)
        os._exit(ORPHANED)


async def work(plan: Plan) -> None:
    """Carry out the plan with a store of this process's own."""
    settings = demo_settings(plan.url, plan.tenant)
    async with AsyncContextStore.connect(settings.url, tenant=plan.tenant, settings=settings) as store:
        await Worker(plan, store).work()


if __name__ == "__main__":
    asyncio.run(work(Plan.from_json(sys.stdin.read())))
