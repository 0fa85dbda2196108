"""What large writes do to small calls of the same process, and what the event loop loses to one of them.

What belongs here: phases with and without large writes, and a ticker that notes when the loop stood still. What does
not: throughput (`storm`). Invariant: phases of either kind take turns; the first of each warms up and is not counted.

A small call is one of a task that restores a context of 1 kB, preserves it under the same id, and rests a few
milliseconds: calls wait for the machine, not for each other.
"""

from __future__ import annotations

import asyncio
import bisect
import statistics
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter_ns
from typing import Any, TypeAlias

from benchmarks.bodies import Body, conversation
from benchmarks.duel import summarise
from benchmarks.growth import data
from benchmarks.places import bench_settings
from benchmarks.plan import KB, Plan
from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.testing import RunningServer

TASKS = 8
LARGE = "9 MB"
_REST_SECONDS = 0.005
_TICK_SECONDS = 0.001
# A tick is late by a little for many reasons; from here on the loop stood still.
_GAP_NS = 5_000_000
Span: TypeAlias = tuple[int, int]


@dataclass
class Ticker:
    """Wakes up every millisecond; `gaps` are the spans it should have woken up in and did not."""

    gaps: list[Span] = field(default_factory=list)
    longest_ns: int = 0

    async def run(self) -> None:
        """Tick until cancelled."""
        due = perf_counter_ns() + round(_TICK_SECONDS * 1e9)
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            now = perf_counter_ns()
            self.longest_ns = max(self.longest_ns, now - due)
            if now - due >= _GAP_NS:
                self.gaps.append((due, now))
            due = perf_counter_ns() + round(_TICK_SECONDS * 1e9)

    def within(self, span: Span) -> int:
        """How much of a span the loop stood still."""
        first = max(0, bisect.bisect_left(self.gaps, span) - 1)
        shares = (min(end, span[1]) - max(start, span[0]) for start, end in self.gaps[first:] if start < span[1])
        return sum(share for share in shares if share > 0)


@asynccontextmanager
async def ticking() -> AsyncGenerator[Ticker]:
    """A ticker that runs meanwhile."""
    ticker = Ticker()
    task = asyncio.create_task(ticker.run())
    await asyncio.sleep(0)
    try:
        yield ticker
    finally:
        task.cancel()


@dataclass
class Phase:
    """Spans of small calls, and what is left of their times without the loop's gaps."""

    took_ns: list[int] = field(default_factory=list)
    excluded_ns: list[int] = field(default_factory=list)
    longest_gap_ns: list[int] = field(default_factory=list)

    def add(self, spans: list[Span], ticker: Ticker) -> None:
        """Count one phase."""
        self.took_ns += [end - start for start, end in spans]
        self.excluded_ns += [end - start - ticker.within((start, end)) for start, end in spans]
        self.longest_gap_ns.append(ticker.longest_ns)

    def summary(self) -> dict[str, Any]:
        """What is kept."""
        whole, excluded = summarise(self.took_ns), summarise(self.excluded_ns)
        return {
            "count": whole.count,
            "p50_us": whole.p50_us,
            "p99_us": whole.p99_us,
            "p50_without_gaps_us": excluded.p50_us,
            "p99_without_gaps_us": excluded.p99_us,
            "longest_gap_ms": round(max(self.longest_gap_ns) / 1e6, 2),
        }


class Small:
    """Tasks with a small context each."""

    def __init__(self, store: AsyncContextStore) -> None:
        self._store = store
        self._data = conversation(KB)
        self._ids: list[str] = []

    async def fill(self) -> None:
        """Preserve the contexts."""
        self._ids = [(await self._store.preserve("small", self._data)).context_id for _ in range(TASKS)]

    async def phase(self, calls: int, heavy: asyncio.Task[None] | None) -> list[Span]:
        """Spans of `calls` of each task; with large writes going on, as many as there is time for."""
        spans: list[Span] = []
        await asyncio.gather(*(self._work(context_id, calls, heavy, spans) for context_id in self._ids))
        return spans

    async def _work(self, context_id: str, calls: int, heavy: asyncio.Task[None] | None, spans: list[Span]) -> None:
        store, number = self._store, 0
        while number < calls if heavy is None else not heavy.done():
            started = perf_counter_ns()
            await store.restore(context_id)
            read = perf_counter_ns()
            await store.preserve("small", self._data, context_id=context_id)
            spans += [(started, read), (read, perf_counter_ns())]
            number += 1
            await asyncio.sleep(_REST_SECONDS)


async def measure(server: RunningServer, plan: Plan) -> dict[str, Any]:
    """Small calls alone and beside large writes; the loop's longest standstill in one large write."""
    async with AsyncContextStore.connect(server.url, settings=bench_settings()) as store:
        small, body = Small(store), Body(LARGE, "auto", data(LARGE))
        await small.fill()
        large = (await store.preserve("large", body.data)).context_id
        gaps = [await _gap_of_one(store, large, body) for _ in range(plan.heavy_preserves + 1)][1:]
        alone, beside = Phase(), Phase()
        for number in range(plan.heavy_phases + 1):
            async with ticking() as ticker:
                spans = await small.phase(plan.heavy_calls, None)
            async with ticking() as busy:
                heavy = asyncio.create_task(_heavy(store, large, body, plan.heavy_preserves))
                busy_spans = await small.phase(0, heavy)
                await heavy
            if number:
                alone.add(spans, ticker)
                beside.add(busy_spans, busy)
    server.admin.flushall(asynchronous=False)
    return _result(alone, beside, gaps)


async def _heavy(store: AsyncContextStore, large: str, body: Body, preserves: int) -> None:
    for _ in range(preserves):
        await store.preserve("large", body.data, context_id=large)


async def _gap_of_one(store: AsyncContextStore, large: str, body: Body) -> tuple[int, int]:
    """Nanoseconds the loop stood still at a time, at most, in one large write, and those of the whole write."""
    async with ticking() as ticker:
        await asyncio.sleep(2 * _TICK_SECONDS)
        ticker.longest_ns = 0
        started = perf_counter_ns()
        await _heavy(store, large, body, 1)
        took = perf_counter_ns() - started
        # A gap at the very end is seen at the next tick.
        await asyncio.sleep(2 * _TICK_SECONDS)
    return ticker.longest_ns, took


def _result(alone: Phase, beside: Phase, gaps: list[tuple[int, int]]) -> dict[str, Any]:
    one, other = alone.summary(), beside.summary()
    return {
        "tasks": TASKS,
        "large": LARGE,
        "alone": one,
        "beside": other,
        "p99_ratio": round(other["p99_us"] / one["p99_us"], 3),
        "p99_ratio_without_gaps": round(other["p99_without_gaps_us"] / one["p99_without_gaps_us"], 3),
        "gap_ms": {
            "median": round(statistics.median(gap for gap, _ in gaps) / 1e6, 2),
            "max": round(max(gap for gap, _ in gaps) / 1e6, 2),
        },
        "large_preserve_ms": round(statistics.median(took for _, took in gaps) / 1e6, 2),
    }
