"""What one step of the bus costs: emitting by one task and by many, and each script by itself.

What belongs here: lanes of emits beside XADD, and of claims, acknowledgements and commits. What does not: workers.
Invariant: in a turn of a lane one script runs and no other, so all EVALSHA time of the turn is its own; what it needs
is made before the turn, outside the figures.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import redis.asyncio

from benchmarks.buses.side import payload
from benchmarks.duel import Lane, play_async, play_storm, summarise, turns
from benchmarks.meters import Meter
from benchmarks.places import bench_settings
from benchmarks.plan import Plan
from lukhas_redis import ops
from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.bus_models import BusEvent
from lukhas_redis.ops import bus
from lukhas_redis.ops.bus.patterns import lua_patterns
from lukhas_redis.testing import RunningServer

_GROUP, _CONSUMER, _WAITING = "work", "one", "@bench"
_AT_ONCE = 32
_HOLD_MS = 3_600_000
STEPS = ("emit", "claim of 1", f"claim of {_AT_ONCE}", "ack of 1", f"ack of {_AT_ONCE}", "commit with 1 append")


async def emits(server: RunningServer, plan: Plan) -> list[dict[str, Any]]:
    """Events per second by one task and by `plan.tasks`, beside XADD of the same bytes of JSON."""
    rows = []
    for tasks, block in ((1, max(2, plan.storm_block // 4)), (plan.tasks, plan.storm_block)):
        store, client = _store(server, f"emits-{tasks}"), redis.asyncio.Redis.from_url(server.url)
        try:
            await store.ready()
            lanes = _emit_lanes(store, client, Meter(server))
            await play_storm(turns(lanes, plan.blocks, block), tasks)
        finally:
            await store.close()
            await client.aclose()
        rows.append(_emit_row(tasks, block, lanes))
        server.admin.flushall(asynchronous=False)
    return rows


def _emit_lanes(store: AsyncContextStore, client: redis.asyncio.Redis, meter: Meter) -> list[Lane]:
    data = payload("emit", 0)
    return [
        Lane("ours", lambda _: store.run(_emit(store)), meter, ("evalsha",)),
        Lane("raw", lambda _: client.xadd("raw", {"data": json.dumps(data)}), meter, ("xadd",)),
    ]


def _emit_row(tasks: int, block: int, lanes: list[Lane]) -> dict[str, Any]:
    per_second = {lane.name: round(block / summarise(lane.took_ns).p50_us * 1_000_000) for lane in lanes}
    return {
        "tasks": tasks,
        "per_second": per_second,
        "server_us": {lane.name: lane.summary()["server_us"] for lane in lanes},
        "to_raw": round(per_second["ours"] / per_second["raw"], 3),
    }


@dataclass
class Stage:
    """A tenant with events for one lane: `waiting` to be claimed, `held` by the lane's worker."""

    store: AsyncContextStore
    context_id: str = ""
    held: list[BusEvent] = field(default_factory=list)

    async def emit(self, count: int) -> None:
        """So many events more."""
        await asyncio.gather(*(self.store.run(_emit(self.store)) for _ in range(count)))

    async def claim(self, count: int) -> list[BusEvent]:
        """Claim up to so many."""
        claimed = await self.store.run(self.claiming(count))
        assert claimed is not None
        return list(claimed.events)

    def claiming(self, count: int) -> Any:
        """The operation of that."""
        return bus.claim(
            self.store.space, _GROUP, _CONSUMER, count, patterns=lua_patterns("*"), hold_ms=_HOLD_MS, max_deliveries=5
        )

    async def ack(self, events: Sequence[BusEvent]) -> None:
        """Finish some."""
        await self.store.run(bus.ack(self.store.space, _GROUP, _CONSUMER, events))

    async def commit(self, event: BusEvent) -> None:
        """Finish one together with an item appended."""
        item = {"n": event.payload["n"]}
        step = ops.append(self.store.space, self.context_id, ("done",), [item])
        await self.store.run(bus.commit(self.store.space, [step], delivery=event, group=_GROUP, consumer=_CONSUMER))

    async def refill(self, count: int) -> None:
        """Finish what is held and hold so many others."""
        await self.ack(self.held)
        await self.emit(count)
        self.held.clear()
        while len(self.held) < count:
            self.held += await self.claim(min(1_000, count - len(self.held)))

    async def restock(self, count: int) -> None:
        """Finish all there is, and have so many wait."""
        while events := await self.claim(1_000):
            await self.ack(events)
        await self.ack(self.held)
        self.held.clear()
        await self.emit(count)


async def scripts(server: RunningServer, plan: Plan) -> list[dict[str, Any]]:
    """Each script by itself: time of a call, and the server's, for a call and for an event."""
    meter, rows, stages = Meter(server), [], list[Stage]()
    try:
        lanes, sizes, block = [], [], max(2, plan.block["1 kB"] // 5)
        for name, events, make in _kinds():
            stage = Stage(_store(server, f"scripts-{len(stages)}"))
            stages.append(stage)
            await stage.store.run(bus.join(stage.store.space, _GROUP, waiting=_WAITING))
            stage.context_id = (await stage.store.preserve("effects", {"done": []})).context_id
            prepare, call = make(stage, events, block)
            lanes.append(Lane(name, call, meter, ("evalsha",), prepare=prepare))
            sizes.append(events)
        await play_async(turns(lanes, plan.blocks, block))
        for lane, events in zip(lanes, sizes, strict=True):
            summary = lane.summary()
            each = round(summary["server_us"] / events, 2)
            rows.append({"step": lane.name, "events": events, "server_us_event": each, **summary})
    finally:
        for stage in stages:
            await stage.store.close()
    server.admin.flushall(asynchronous=False)
    return rows


Made = tuple[Callable[[int], Awaitable[None]], Callable[[int], Awaitable[Any]]]


def _kinds() -> Iterator[tuple[str, int, Callable[[Stage, int, int], Made]]]:
    """The steps with the events in a call of each, and how their lanes are made for turns of so many calls."""
    makers = (_emitting, _claiming, _claiming, _acking, _acking, _committing)
    yield from zip(STEPS, (1, 1, _AT_ONCE, 1, _AT_ONCE, 1), makers, strict=True)


def _emitting(stage: Stage, _: int, __: int) -> Made:
    return lambda _: stage.restock(0), lambda _: stage.store.run(_emit(stage.store))


def _claiming(stage: Stage, events: int, block: int) -> Made:
    async def call(_: int) -> None:
        stage.held += await stage.claim(events)

    return lambda _: stage.restock(events * block), call


def _acking(stage: Stage, events: int, block: int) -> Made:
    async def call(number: int) -> None:
        place = number % block * events
        await stage.ack(stage.held[place : place + events])

    return lambda _: stage.refill(events * block), call


def _committing(stage: Stage, _: int, block: int) -> Made:
    return lambda _: stage.refill(block), lambda number: stage.commit(stage.held[number % block])


def _emit(store: AsyncContextStore) -> Any:
    return bus.emit(store.space, "bench.event", payload("emit", 0))


def _store(server: RunningServer, tenant: str) -> AsyncContextStore:
    settings = bench_settings(bus_max_entries=100_000_000, bus_history_seconds=0)
    return AsyncContextStore.connect(server.url, tenant=tenant, settings=settings)
