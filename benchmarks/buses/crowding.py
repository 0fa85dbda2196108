"""The bus where it is tight: an urgent event behind many, and many workers that wait for few events.

What belongs here: these two. What does not: the race. Invariant: an urgent event counts only if it came while others
were still waiting, and the calls that are counted include those that found nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from benchmarks.buses.ours import Ours
from benchmarks.buses.race import pair
from benchmarks.counters import Counters, Probe
from benchmarks.duel import summarise
from benchmarks.places import bench_settings
from benchmarks.plan import Plan
from lukhas_redis.bus import AsyncContextBus, BusEvent
from lukhas_redis.testing import RunningServer

WORKERS = 8
_SECONDS = 300.0
_URGENT, _WAITING, _IDLE = "urgent", "waiting", "idle"
# Until every worker that looked has found nothing and waits again.
_SETTLE_SECONDS = 0.05
_LOOK_SECONDS = 0.005


def behind(server: RunningServer, plan: Plan) -> dict[str, Any]:
    """How long a critical event waits for the only slot of a worker, idle and behind `plan.bus_behind` low ones."""
    count, many = plan.bus_idle, plan.bus_behind
    with pair(Ours, server.url) as (worker, emitter):
        worker.ask("prepare")
        emitter.ask("open")
        worker.ask("work", concurrency=1, signed=_IDLE)
        emitter.ask("singly", phase=_IDLE, count=count, seconds=plan.bus_seconds * 2, priority="critical")
        idle = worker.ask("expect", phase=_IDLE, count=1, seconds=_SECONDS, all=True)
    server.admin.flushall(asynchronous=False)
    with pair(Ours, server.url) as (worker, emitter):
        worker.ask("prepare")
        emitter.ask("open")
        emitter.ask("emit", phase=_WAITING, count=many, tasks=plan.tasks, priority="low")
        worker.ask("work", concurrency=1, signed=_URGENT, other=_WAITING)
        worker.ask("expect", phase=_WAITING, count=1, seconds=_SECONDS, all=False)
        emitter.ask("singly", phase=_URGENT, count=count, seconds=plan.bus_seconds * 2, priority="critical")
        urgent = worker.ask("expect", phase=_URGENT, count=1, seconds=_SECONDS, all=False)
    server.admin.flushall(asynchronous=False)
    return weighed(idle["latency_ns"], urgent["latency_ns"], urgent["others_first"], many)


def weighed(idle_ns: list[int], urgent_ns: list[int], others_first: list[int], many: int) -> dict[str, Any]:
    """The figures; urgent events that came when all others were handled do not count.

    Raises:
        RuntimeError: None counts.
    """
    counted = [took for took, before in zip(urgent_ns, others_first, strict=True) if before < many]
    if not counted:
        raise RuntimeError(f"all {many} low events were handled before the first urgent one")
    idle, urgent = summarise(idle_ns), summarise(counted)
    return {
        "low": many,
        "low_before_last": max(before for before in others_first if before < many),
        "idle": asdict(idle),
        "urgent": asdict(urgent),
        "to_idle": round(urgent.p50_us / idle.p50_us, 3),
        "p99_to_idle": round(urgent.p99_us / idle.p99_us, 3),
    }


async def herd(server: RunningServer, plan: Plan) -> list[dict[str, Any]]:
    """Calls of scripts when 8 workers share `plan.bus_shared` events: that come one at a time, and all at once."""
    handled: list[int] = []

    async def handler(event: BusEvent) -> None:
        handled.append(event.payload["n"])

    probe, rows = Probe(server), []
    for case in ("one at a time", "all at once"):
        handled.clear()
        buses = [_bus(server) for _ in range(WORKERS + 1)]
        emitter, workers = buses[0], buses[1:]
        for bus in workers:
            bus.subscribe("bench.*", handler, group="work")
        tasks = [asyncio.create_task(bus.run()) for bus in workers]
        try:
            await emitter.emit("bench.event", {"n": -1})
            await _until(lambda: len(handled) == 1)
            await asyncio.sleep(10 * _SETTLE_SECONDS)
            before = probe.look()
            await _emitted(emitter, handled, plan.bus_shared, at_once=case == "all at once")
            spent = probe.look().since(before)
        finally:
            for bus in workers:
                bus.stop()
            await asyncio.gather(*tasks, return_exceptions=True)
            for bus in buses:
                await bus.close()
        rows.append(_counted(case, plan.bus_shared, spent))
        server.admin.flushall(asynchronous=False)
    return rows


def _counted(case: str, events: int, spent: Counters) -> dict[str, Any]:
    scripts = spent.calls.get("evalsha", 0)
    return {
        "case": case,
        "workers": WORKERS,
        "events": events,
        "scripts": scripts,
        "scripts_per_event": round(scripts / events, 2),
        # If every event woke every worker, and one of them took and finished it.
        "herd_calls": events * (WORKERS + 1),
    }


async def _emitted(emitter: AsyncContextBus, handled: list[int], events: int, *, at_once: bool) -> None:
    """All events emitted and handled, and the workers waiting again."""
    already = len(handled)
    if at_once:
        await asyncio.gather(*(emitter.emit("bench.event", {"n": number}) for number in range(events)))
        await _until(lambda: len(handled) >= already + events)
    else:
        for number in range(events):
            await emitter.emit("bench.event", {"n": number})
            await _until(lambda number=number: len(handled) > already + number)  # type: ignore[misc]
            await asyncio.sleep(_LOOK_SECONDS)
    await asyncio.sleep(_SETTLE_SECONDS)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_SECONDS):
        while not condition():  # noqa: ASYNC110 - what others do is looked at, whoever does it
            await asyncio.sleep(_LOOK_SECONDS)


def _bus(server: RunningServer) -> AsyncContextBus:
    return AsyncContextBus.connect(server.url, tenant="herd", settings=bench_settings())
