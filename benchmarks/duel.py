"""Two or more sides measured in turns: A B C, B C A, C A B, so that what the machine does meanwhile hits all alike.

What belongs here: the order of turns, timing single calls, charging server time. What does not: what is called.
Invariant: the first turn of every side warms it up and is not counted; only `call` and `then` are inside the clock.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter_ns
from typing import Any, TypeAlias

from benchmarks.counters import Counters
from benchmarks.meters import Meter

Call: TypeAlias = Callable[[int], Any]


@dataclass
class Lane:
    """One side: `call(i)` returns a result (or an awaitable of it), `then(result)` is timed as well.

    Not timed: `prepare(first number)` before each turn, which is not in the server's figures either (asyncio: it may
    be awaitable), `before(number)` and `note(result)` around each call, `after()` behind each turn. The server's time
    is that of `commands` plus `extra_us` a call.
    """

    name: str
    call: Call
    meter: Meter
    commands: tuple[str, ...]
    extra_us: float = 0.0
    then: Callable[[Any], object] | None = None
    prepare: Callable[[int], Any] | None = None
    before: Callable[[int], object] | None = None
    note: Callable[[Any], object] | None = None
    after: Callable[[], None] | None = None
    took_ns: list[int] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)
    wire_bytes: list[float] = field(default_factory=list)

    def charge(self, took_ns: list[int], calls: int, spent: Counters) -> None:
        """Count one turn."""
        self.took_ns += took_ns
        self.server_us.append(spent.us(self.commands) / calls + self.extra_us)
        self.wire_bytes.append(spent.wire / calls)

    def summary(self) -> dict[str, Any]:
        """What is kept of the samples; time and bytes of the server per call: mean of a turn, median over turns."""
        middle, mean = statistics.median(self.server_us), statistics.fmean(self.server_us)
        return {
            **asdict(summarise(self.took_ns)),
            "server_us": round(middle, 2),
            "server_us_mean": round(mean, 2),
            "server_us_max": round(max(self.server_us), 2),
            "wire_bytes": round(statistics.median(self.wire_bytes), 1),
        }


@dataclass
class Turn:
    """The calls of one lane that come next; whoever plays it calls `begin` once it is prepared, and fills `took_ns`."""

    lane: Lane
    numbers: range
    took_ns: list[int] = field(default_factory=list)
    started: Counters | None = None

    def begin(self) -> None:
        """Note what the server has done before."""
        self.started = self.lane.meter.look()

    def spent(self) -> Counters:
        """What the server has done since `begin`."""
        assert self.started is not None
        return self.lane.meter.look().since(self.started)


@dataclass(frozen=True, slots=True)
class Summary:
    """Single calls, in microseconds; percentiles by nearest rank."""

    count: int
    min_us: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float
    mean_us: float


def turns(lanes: Sequence[Lane], blocks: int, block: int) -> Iterator[Turn]:
    """One turn to warm up and `blocks` that count, of `block` calls each, for every lane."""
    for number in range(blocks + 1):
        first = number % len(lanes)
        for lane in (*lanes[first:], *lanes[:first]):
            turn = Turn(lane, range(number * block, (number + 1) * block))
            yield turn
            spent = turn.spent()
            if number:
                lane.charge(turn.took_ns, block, spent)
            if lane.after is not None:
                lane.after()


def play(schedule: Iterator[Turn]) -> None:
    """One call after the other."""
    for turn in schedule:
        call, then, note, took = turn.lane.call, turn.lane.then, turn.lane.note, turn.took_ns
        prepare, before = turn.lane.prepare, turn.lane.before
        if prepare is not None:
            prepare(turn.numbers.start)
        turn.begin()
        for number in turn.numbers:
            if before is not None:
                before(number)
            started = perf_counter_ns()
            result = call(number)
            if then is not None:
                then(result)
            took.append(perf_counter_ns() - started)
            if note is not None:
                note(result)


async def play_async(schedule: Iterator[Turn]) -> None:
    """One awaited call after the other."""
    for turn in schedule:
        call, then, note, took = turn.lane.call, turn.lane.then, turn.lane.note, turn.took_ns
        before = turn.lane.before
        await _prepared(turn)
        turn.begin()
        for number in turn.numbers:
            if before is not None:
                before(number)
            started = perf_counter_ns()
            result = await call(number)
            if then is not None:
                then(result)
            took.append(perf_counter_ns() - started)
            if note is not None:
                note(result)


async def play_storm(schedule: Iterator[Turn], tasks: int) -> None:
    """The calls of a turn spread over `tasks` tasks; the one sample of a turn is its whole time."""
    for turn in schedule:
        numbers = iter(turn.numbers)
        results: list[Any] = []
        await _prepared(turn)
        turn.begin()
        started = perf_counter_ns()
        await asyncio.gather(*(_worker(turn.lane.call, numbers, results) for _ in range(tasks)))
        turn.took_ns.append(perf_counter_ns() - started)
        for result in results:
            if turn.lane.note is not None:
                turn.lane.note(result)


async def _prepared(turn: Turn) -> None:
    waiting = turn.lane.prepare(turn.numbers.start) if turn.lane.prepare is not None else None
    if waiting is not None:
        await waiting


async def _worker(call: Callable[[int], Awaitable[Any]], numbers: Iterator[int], results: list[Any]) -> None:
    for number in numbers:
        results.append(await call(number))  # noqa: PERF401 - the tasks share both


def summarise(took_ns: Sequence[int]) -> Summary:
    """Sum up samples given in nanoseconds (at least one)."""
    ordered = sorted(took_ns)

    def at(share: float) -> float:
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)] / 1000, 2)

    mean = round(sum(ordered) / len(ordered) / 1000, 2)
    return Summary(len(ordered), at(0), at(0.5), at(0.9), at(0.99), at(1), mean)
