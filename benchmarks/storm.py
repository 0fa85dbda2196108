"""Throughput of many tasks on one event loop: our store against redis-py, each with one client for all tasks.

What belongs here: the concurrent lanes. What does not: single calls (`contest`).
Invariant: both sides do the same number of calls in every turn, and a figure is the median over turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.bodies import Body
from benchmarks.contest import both_async
from benchmarks.duel import Call, Lane, play_storm, summarise, turns
from benchmarks.meters import Meter
from benchmarks.places import bench_settings
from benchmarks.plan import Plan
from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.testing import RunningServer


async def measure(server: RunningServer, body: Body, plan: Plan) -> list[dict[str, Any]]:
    """Calls per second with `plan.tasks` tasks, preserve against SET and restore, also of what is held, against GET."""
    rows = []
    holding = bench_settings(near_cache="on", max_cache_size_entries=2 * plan.storm_block)
    near = AsyncContextStore.connect(server.url, settings=holding)
    async with both_async(server) as (store, client), near:
        # One call before the crowd: the tenant's first use is a protocol of its own.
        await store.preserve("first", body.data)
        for case, ours, raw in _cases(store, near, client, body, plan.storm_block):
            meter = Meter(server)
            lanes = [Lane("ours", ours, meter, ("evalsha",)), Lane("raw", raw, meter, ("set", "get"))]
            await play_storm(turns(lanes, plan.blocks, plan.storm_block), plan.tasks)
            rows.append(_row(case, body, plan, lanes))
    server.admin.flushall(asynchronous=False)
    return rows


def _cases(store: Any, near: Any, client: Any, body: Body, block: int) -> Iterator[tuple[str, Call, Call]]:
    data, compression, stored = body.data, body.compression, body.stored
    ids: list[str] = []

    async def preserve(number: int) -> None:
        ids.append((await store.preserve(f"session-{number // 20}", data, compression=compression)).context_id)

    yield "preserve", preserve, lambda number: client.set(f"raw:{number}", stored)
    # The same contexts in every turn: the first turn, which is not counted, notes the first read of each.
    yield (
        "restore",
        lambda number: store.restore(ids[number % block]),
        lambda number: client.get(f"raw:{number % block}"),
    )
    # What the process holds, confirmed by the server, as the view that all readers share.
    yield (
        "restore, held",
        lambda number: near.restore(ids[number % block], shared=True),
        lambda number: client.get(f"raw:{number % block}"),
    )


def _row(case: str, body: Body, plan: Plan, lanes: list[Lane]) -> dict[str, Any]:
    per_second = {lane.name: round(plan.storm_block / summarise(lane.took_ns).p50_us * 1_000_000) for lane in lanes}
    return {
        "case": case,
        "size": body.size,
        "variant": body.variant,
        "tasks": plan.tasks,
        "calls_per_turn": plan.storm_block,
        "per_second": per_second,
        "server_us": {lane.name: lane.summary()["server_us"] for lane in lanes},
        "to_raw": round(per_second["ours"] / per_second["raw"], 3),
    }
