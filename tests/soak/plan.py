"""What a soak is to do: its parameters, the parts of its load, and what is planned for each event.

What belongs here: pure functions of the parameters, so that producers, workers and the judge agree without talking.
What does not: doing any of it.
Invariant: a part and its events depend on the seed and on the part's name alone, in every process and after every kill.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from pydantic import BaseModel

from lukhas_redis.bus_models import PRIORITIES
from lukhas_redis.keys import mint_context_id

COUNT_EVERY, ECHO_EVERY, HANDOFF_EVERY, OUTBOX_EVERY = 3, 5, 10, 11
PROVIDERS = ("claude", "gpt", "gemini")
SEEN, ECHOED, OUTBOX, EARLY, COUNTED = "seen", "echoed", "outbox", "early", "counted"
PART_TTL_SECONDS = 120  # a session's list of contexts lives as long as they would have, even when they are dropped
ENOUGH, HOLD_ON = "enough", "hold-on"
PLANTS = ("lost", "double", "order", "left-over")


class Load(BaseModel, frozen=True):
    """The parameters of a soak. `rate`: events a second that producers emit together; `plants`: faults put in."""

    minutes: float = 10.0
    seed: int = 0
    workers: int = 4
    producers: int = 2
    lanes: int = 4
    rate: float = 80.0
    events: int = 60
    most_waiting: int = 500
    plants: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """How long the load lasts, without the draining."""
        return self.minutes * 60

    @property
    def is_long(self) -> bool:
        """Whether there is time for a plateau, and for judging whether it is one."""
        return self.seconds >= 120

    @property
    def keep_seconds(self) -> int:
        """How long history, answers, tombstones and names of workers are kept: short, so that a plateau is reached."""
        return 20 if self.seconds >= 30 else 5

    @property
    def hold_seconds(self) -> float:
        """How long the events of a killed worker stay its own."""
        return 1.5 if self.is_long else 0.8

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of every process."""
        keep = self.keep_seconds
        return {
            "max_context_throughput_mbps": 0,
            "call_timeout_seconds": 3.0,
            "metrics": False,
            "near_cache": "on",
            "max_cache_size_entries": 64,
            "min_ttl_seconds": 1,
            "request_retention_seconds": keep,
            "tombstone_grace_seconds": keep,
            "bus_history_seconds": keep,
            "bus_worker_idle_seconds": keep,
        }


@dataclass(frozen=True)
class Planned:
    """One event. `poison`: how its handler fails until its dead letter is redriven (reject, raise); `flaky`: it fails
    once; `repeats`: how often it is emitted again under its idempotency key; `outbox`: it is emitted by a write.
    """

    number: int
    priority: str
    delay: float
    poison: str
    flaky: bool
    repeats: int
    outbox: bool


@dataclass(frozen=True)
class Part:
    """A conversation: two contexts and the events that change them. `ordered`: they carry its name as ordering key."""

    seed: int
    producer: int
    lane: int
    round: int
    length: int

    @property
    def name(self) -> str:
        """Its session and ordering key."""
        return f"part-{self.producer}-{self.lane}-{self.round}"

    @property
    def ordered(self) -> bool:
        """Three of four lanes; the others have every priority and delay mixed."""
        return self.lane % 4 != 3

    @property
    def delay(self) -> float:
        """What every event of an ordered part is delayed by: those due later come later."""
        return 0.3 if self.lane % 4 == 2 else 0.0

    @cached_property
    def log(self) -> str:
        """The context that every event is noted in."""
        return self._context("log")

    @cached_property
    def count(self) -> str:
        """The context that every third event of an ordered part counts in."""
        return self._context("count")

    def _context(self, what: str) -> str:
        digest = hashlib.sha256(f"{self.seed} {self.name} {what}".encode()).hexdigest()
        return mint_context_id(self.name, digest[:32])

    @cached_property
    def planned(self) -> tuple[Planned, ...]:
        """Every event, in the order of emission."""
        return tuple(self._plan(number) for number in range(self.length))

    def _plan(self, number: int) -> Planned:
        chance = random.Random(f"{self.seed} {self.name} {number}")
        steady = number % COUNT_EVERY == 0 or number % HANDOFF_EVERY == 0  # these rely on all before them
        poison = "" if steady or chance.random() > 0.04 else chance.choice(("reject", "raise"))
        own = PRIORITIES[(self.lane + self.round) % len(PRIORITIES)]
        late = chance.random() < 0.2
        return Planned(
            number,
            own if self.ordered else chance.choice(PRIORITIES),
            self.delay if self.ordered else chance.uniform(0.05, 1.0) * late,
            poison,
            not poison and chance.random() < 0.03,
            int(chance.random() < 0.1) * chance.randint(1, 2),
            number % OUTBOX_EVERY == OUTBOX_EVERY - 1,
        )

    def numbers(self, every: int = 1) -> list[int]:
        """The numbers of its events, or of every third and so on."""
        return list(range(0, self.length, every))

    @property
    def poisoned(self) -> list[int]:
        """Numbers of the events that become dead letters first, and come out of order after that."""
        return [one.number for one in self.planned if one.poison]

    @property
    def outbox(self) -> list[int]:
        """Numbers of the events that a write carries."""
        return [one.number for one in self.planned if one.outbox]

    @property
    def handoffs(self) -> int:
        """How often its log changes hands."""
        return len(self.numbers(HANDOFF_EVERY)) if self.ordered else 0

    @property
    def amount(self) -> int:
        """How many events it makes, with those that handlers emit."""
        return self.length + len(self.numbers(ECHO_EVERY))


def parts_of(load: Load, producer: int, lane: int) -> Iterator[Part]:
    """The parts of one lane, without end."""
    number = 0
    while True:
        yield Part(load.seed, producer, lane, number, load.events)
        number += 1


@lru_cache(maxsize=32)
def part_named(load: Load, name: str) -> Part:
    """The part of a name."""
    _, producer, lane, number = name.split("-")
    return Part(load.seed, int(producer), int(lane), int(number), load.events)


def providers_of(number: int) -> Sequence[str]:
    """From whom to whom the handoff of an event leads."""
    turn = number // HANDOFF_EVERY
    return PROVIDERS[turn % len(PROVIDERS)], PROVIDERS[(turn + 1) % len(PROVIDERS)]
