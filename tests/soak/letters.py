"""Dead letters of a soak: each is redriven once its handler is cured.

What belongs here: redriving, and remembering which there were. What does not: what makes an event poison (`plan`).
Invariant: an event is redriven once; one that dies a second time, or that was no poison, is unexpected.
"""

from __future__ import annotations

from lukhas_redis.bus_models import DeadLetter
from tests.soak.crew import Crew
from tests.soak.handling import cured
from tests.soak.plan import Load, part_named


class Letters:
    """Redrives what it finds."""

    def __init__(self, load: Load, crew: Crew) -> None:
        self._load = load
        self._crew = crew
        self.redriven: set[tuple[str, int]] = set()
        self.unexpected: list[str] = []

    def redrive(self) -> None:
        """Cure the handlers of all dead letters that there are, and give the letters back."""
        letters = self._crew.bus.dead_letters(count=1000)
        for letter in letters:
            self._cure(letter)
        if letters:
            self._crew.bus.redrive(letters)

    def _cure(self, letter: DeadLetter) -> None:
        if letter.event is None:
            self.unexpected.append(f"a letter that cannot be read: {letter.error}")
            return
        part = part_named(self._load, letter.event.payload["part"])
        number = letter.event.payload["n"]
        poison = part.planned[number].poison if letter.event.event == "work.todo" else ""
        if not poison or (part.name, number) in self.redriven:
            why = f"{letter.reason} {letter.error}"
            self.unexpected.append(f"{letter.name} {part.name} {number} after {letter.deliveries} deliveries: {why}")
        if letter.event.event == "work.todo":
            self.redriven.add((part.name, number))
        self._crew.notes.leave(cured(part, number))
