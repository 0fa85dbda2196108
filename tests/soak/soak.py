"""One soak from its start to its verdicts.

What belongs here: what is done when. What does not: how (the other modules).
Invariant: the load is disturbed until its time is over, then it is drained undisturbed, and only then judged.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lukhas_redis.keys import KeySpace
from lukhas_redis.testing import RunningServer, TcpProxy, wait_until
from tests.faults.bus_worker import WORK
from tests.soak import remains, verdicts
from tests.soak.crew import Crew
from tests.soak.judging import Judge
from tests.soak.letters import Letters
from tests.soak.plan import ENOUGH, HOLD_ON, Load
from tests.soak.sampling import Sample, Sampler
from tests.soak.steadiness import BOUNDS, growth_of
from tests.soak.verdicts import Verdict, found_none

_TICK_SECONDS = 0.05
_DRAIN_SECONDS = 120.0
_AOF = {"appendonly": "yes", "appendfsync": "everysec", "auto-aof-rewrite-min-size": "16mb"}
CONFIG = {**_AOF, "maxmemory": "512mb", "maxmemory-policy": "noeviction"}


@dataclass
class Chore:
    """Something that is done again and again."""

    every: float
    action: Callable[[], object]
    due: float = 0.0

    def tick(self) -> None:
        """Do it when it is time."""
        if time.monotonic() >= self.due:
            self.action()
            self.due = time.monotonic() + self.every


class Soak:
    """A crew at work on one server."""

    def __init__(
        self, load: Load, server: RunningServer, proxy: TcpProxy, home: Path, say: Callable[[str], None]
    ) -> None:
        self.load = load
        self._server = server
        self._proxy = proxy
        self._say = say
        self.crew = Crew(load, server.url, proxy.url_for(server), "soak", home)
        self._sampler = Sampler(server, proxy, self.crew)
        self._judge = Judge(load, self.crew)
        self._letters = Letters(load, self.crew)
        self._chance = random.Random(f"{load.seed} faults")
        self._keys = KeySpace(self.crew.store.settings.prefix, "soak").root
        self.holds = 0

    @property
    def samples(self) -> list[Sample]:
        """What was measured while the load lasted."""
        return self._sampler.samples

    def run(self) -> list[Verdict]:
        """All of it."""
        self.crew.muster()
        wait_until(lambda: sum(self.crew.bus.status().emitted.values()), timeout=60, what="the first event")
        short = not self.load.is_long
        care = [
            Chore(1.0, self._judge.look),
            Chore(1.0, self._letters.redrive),
            Chore(3.0, self._tidy),
            Chore(0.5, self._hold_on),
        ]
        sampling = Chore(self.load.seconds / 20 if short else 2.0, self._sampler.take)
        harm = [Chore(2.0 if short else 4.0, self.crew.kill_one), Chore(0.5, self._lose_replies), Chore(30, self._tell)]
        for chore in harm:
            chore.due = time.monotonic() + chore.every
        self._until(time.monotonic() + self.load.seconds, [sampling, *care, *harm], lambda: False)
        self._proxy.heal()
        self.crew.notes.leave(ENOUGH)
        late = self._drain(care)
        return self._verdicts(late)

    def _until(self, ends: float, chores: list[Chore], reached: Callable[[], bool]) -> bool:
        while time.monotonic() < ends:
            for chore in chores:
                chore.tick()
            if reached():
                return True
            time.sleep(_TICK_SECONDS)
        return False

    # -- while it lasts ----------------------------------------------------------------------------------------

    def _lose_replies(self) -> None:
        self._proxy.drop_replies(self._chance.randint(0, 2), command="EVALSHA")

    def _tidy(self) -> None:
        self.crew.bus.trim()
        self.crew.store.sweep()

    def _hold_on(self) -> None:
        """Producers wait while workers cannot keep up: the load is as large as the machine allows, not larger."""
        note, groups = self.crew.home / HOLD_ON, self.crew.bus.status().groups
        waiting = sum((one.lag or 0) + one.pending for one in groups)
        if waiting > self.load.most_waiting:
            self.holds += not note.exists()
            note.touch()
        else:
            note.unlink(missing_ok=True)

    def _tell(self) -> None:
        one = self.samples[-1]
        self._say(
            f"{one.at:6.0f} s: {one.done} done, {one.lag + one.pending} waiting, {one.kills} kills, "
            f"{one.used_memory / 1e6:.1f} MB, {len(self._judge.judged)} parts judged, {len(self._judge.wrongs)} wrong"
        )

    # -- the end -----------------------------------------------------------------------------------------------

    def _drain(self, care: list[Chore]) -> list[str]:
        """Let everything come to its end; what did not."""
        wrong = [f"{role} did not end" for role in ("produce", "traffic") if not self._ended(role, care)]
        if not self._until(time.monotonic() + _DRAIN_SECONDS, care, self._is_idle):
            self._say(f"not all is done: {self.crew.bus.status()}")
        wrong += self.crew.dismiss_workers()
        # Now nobody is left who could have an effect twice.
        self._judge.settle()
        return wrong

    def _ended(self, role: str, care: list[Chore]) -> bool:
        return self._until(time.monotonic() + _DRAIN_SECONDS, care, lambda: self.crew.finished(role))

    def _is_idle(self) -> bool:
        status = self.crew.bus.status()
        return not (status.delayed or status.dead or any(one.lag or one.pending for one in status.groups))

    def _verdicts(self, late: list[str]) -> list[Verdict]:
        parts, store, client = self._judge.judged, self.crew.store, self._server.admin
        remains.tidy(self.crew, client, self._keys, self.load.keep_seconds)
        if "left-over" in self.load.plants:
            client.zadd(self._keys.group(WORK, "parked"), {"planted": 0})
        wrong = self.crew.home / "wrong"
        return [
            *verdicts.effects(parts, self._judge.wrongs),
            *verdicts.books(self.crew.bus.status(), parts),
            verdicts.dead_letters(len(self._letters.redriven), self._letters.unexpected, parts),
            *verdicts.remains(
                remains.left_over(client, self._keys),
                remains.names_left(client, self._keys),
                remains.entries_left(client, self._keys),
            ),
            *verdicts.steady([growth_of(bound, self.samples) for bound in BOUNDS]),
            *verdicts.accounts(store.check(), self._server.url, store.tenant),
            found_none("what was read", wrong.read_text().splitlines() if wrong.exists() else [], "as it was written"),
            verdicts.harm(self.crew.kills, self._proxy.dropped),
            verdicts.processes(self.crew.early_ends, late, self.crew.tracebacks()),
        ]
