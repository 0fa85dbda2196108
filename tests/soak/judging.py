"""Whether each part's events had their effects: once, in order, none missing.

What belongs here: reading what a part left and comparing it with its plan. What does not: the bus's own books
(`verdicts`).
Invariant: a part is judged some seconds after it was complete, so that an effect that comes twice is seen, or a minute
after its last event was emitted; only then are its contexts dropped.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lukhas_redis.errors import ContextNotFound
from tests.soak.crew import Crew
from tests.soak.plan import COUNT_EVERY, COUNTED, EARLY, ECHO_EVERY, ECHOED, OUTBOX, SEEN, Load, Part, part_named
from tests.soak.producing import emitted_note, size_of

_LINGER_HOLDS = 2
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Left:
    """What a part left behind: its log, its counter, and how often it was handed on."""

    log: Mapping[str, Sequence[int]]
    counted: int
    hops: int

    def is_complete(self, part: Part) -> bool:
        """Whether as many effects are there as the plan has."""
        echoes = len(part.numbers(ECHO_EVERY))
        return len(self.log[SEEN]) >= part.length and len(self.log[ECHOED]) >= echoes


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing wrong with a part: `kind` is lost, double, order, early or other."""

    kind: str
    text: str


def wrongs_of(part: Part, left: Left) -> list[Wrong]:
    """Everything wrong with what a part left."""
    found = []
    wanted = {SEEN: part.numbers(), ECHOED: part.numbers(ECHO_EVERY), OUTBOX: part.outbox}
    for name, numbers in wanted.items():
        found += _amounts(part, name, left.log[name], numbers)
    if part.ordered:
        poisoned = set(part.poisoned)
        order = [number for number in left.log[SEEN] if number not in poisoned]
        if order != sorted(order):
            found.append(Wrong("order", f"{part.name}: handled in the order {order}"))
        counted = len(part.numbers(COUNT_EVERY))
        if left.counted != counted:
            found.append(Wrong("other", f"{part.name}: counted {left.counted} of {counted}"))
    if left.hops != part.handoffs:
        found.append(Wrong("other", f"{part.name}: handed on {left.hops} times instead of {part.handoffs}"))
    if left.log[EARLY]:
        found.append(Wrong("early", f"{part.name}: delivered before their time: {left.log[EARLY]}"))
    return found


def _amounts(part: Part, name: str, there: Sequence[int], wanted: Sequence[int]) -> list[Wrong]:
    counts = Counter(there)
    lost = [number for number in wanted if not counts[number]]
    double = sorted(number for number, count in counts.items() if count > 1 or number not in wanted)
    return [Wrong("lost", f"{part.name}: no {name} of {lost}")] * bool(lost) + [
        Wrong("double", f"{part.name}: {name} more than once: {double}")
    ] * bool(double)


class Judge:
    """Judges parts as they are completed; at the end all that are left."""

    def __init__(self, load: Load, crew: Crew) -> None:
        self._load = load
        self._crew = crew
        self._open: dict[str, Part] = {}
        self._due: dict[str, float] = {}
        self._complete: set[str] = set()
        self._known: set[str] = set()
        self.judged: list[Part] = []
        self.wrongs: list[Wrong] = []

    def look(self) -> None:
        """Judge what has been complete for long enough."""
        self._find()
        for name, part in list(self._open.items()):
            if size_of(self._crew.home / emitted_note(name)) == part.length:
                self._consider(name, part)

    def _consider(self, name: str, part: Part) -> None:
        now = time.monotonic()
        if now > self._due.setdefault(name, now + _PATIENCE_SECONDS):
            self._judge(part)
        elif name not in self._complete:
            left = self._left(part)
            if left is None or left.is_complete(part):
                self._complete.add(name)
                self._due[name] = now + _LINGER_HOLDS * self._load.hold_seconds

    def settle(self) -> None:
        """Judge all that are left, complete or not."""
        self._find()
        for part in list(self._open.values()):
            self._judge(part)

    def _find(self) -> None:
        begun = emitted_note("")
        for path in self._crew.home.glob(f"{begun}*"):
            name = path.name.removeprefix(begun)
            if name not in self._known:
                self._known.add(name)
                self._open[name] = part_named(self._load, name)

    def _judge(self, part: Part) -> None:
        left = self._left(part)
        self.wrongs += [Wrong("lost", f"{part.name}: its contexts are gone")] if left is None else wrongs_of(part, left)
        self.judged.append(part)
        self._open.pop(part.name)
        for context_id in (part.log, part.count) if left else ():
            self._crew.store.drop(context_id)

    def _left(self, part: Part) -> Left | None:
        store = self._crew.store
        try:
            log, count = store.restore(part.log), store.restore(part.count)
        except ContextNotFound:
            return None
        data: dict[str, Any] = log.data
        return Left(data, count.data[COUNTED], log.metadata.hop_count)
