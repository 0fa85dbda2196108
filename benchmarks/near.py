"""Reading what the process holds already, against PING of redis-py: unchanged, and grown by somebody else meanwhile.

What belongs here: lanes of restores by a near cache, and of PING. What does not: the cost of the append (`growth`).
Invariant: both sides make one round trip to the same server on one connection, in turns, and each call of `grew` of
either side comes after an append by another store outside the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import redis
import redis.asyncio

from benchmarks.duel import Lane, play, play_async, summarise, turns
from benchmarks.growth import Growing
from benchmarks.meters import Meter
from benchmarks.places import bench_settings
from benchmarks.plan import GROWING, Plan
from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.models import Context
from lukhas_redis.store import ContextStore
from lukhas_redis.testing import RunningServer

CASES = (("same", "1 MB"), ("same, private copy", "1 MB"), *(("grew", size) for size in GROWING))


class Readers:
    """The lanes of one case; `store` and `client` are both blocking or both asyncio, `maker` is another process."""

    def __init__(self, server: RunningServer, store: Any, client: Any, maker: ContextStore) -> None:
        self._store, self._client, self._maker = store, client, maker
        self._meter = Meter(server)

    def lanes(self, case: str, size: str, hold: Callable[[Any, str], Any]) -> list[Lane]:
        """Ours and PING, each with a context that grows beside it."""
        store, client, shared = self._store, self._client, case != "same, private copy"
        held, beside = Growing(self._maker, size), Growing(self._maker, size)
        ours = Lane("ours", lambda _: store.restore(held.id, shared=shared), self._meter, (), then=_one_value)
        ours.prepare = lambda _: hold(store, held.renew())
        ping = Lane("ping", lambda _: client.ping(), self._meter, ())
        ping.prepare = lambda _: _nothing(beside.renew())
        if case == "grew":
            ours.before, ping.before = held.grow, beside.grow
            # The other's first append to a context reads it: not beside the clock of a first call.
            ours.prepare = lambda first: _after(held, first, lambda: hold(store, held.id))
            ping.prepare = lambda first: _after(beside, first, lambda: None)
        return [ours, ping]


def _one_value(context: Context) -> str:
    role: str = context.data["messages"][-1]["role"]
    return role


def _nothing(_: object) -> None:
    return None


def _after(growing: Growing, first: int, then: Callable[[], Any]) -> Any:
    growing.renew()
    growing.grow(first)
    return then()


def measure(server: RunningServer, plan: Plan) -> list[dict[str, Any]]:
    """Every case, blocking and asyncio."""
    rows = [*_sync(server, plan), *asyncio.run(_async(server, plan))]
    server.admin.flushall(asynchronous=False)
    return rows


def _sync(server: RunningServer, plan: Plan) -> list[dict[str, Any]]:
    settings = bench_settings(near_cache="on")
    rows = []
    with (
        _maker(server) as maker,
        ContextStore.connect(server.url, settings=settings) as store,
        redis.Redis.from_url(server.url) as client,
    ):
        readers = Readers(server, store, client, maker)
        for case, size in CASES:
            lanes = readers.lanes(case, size, _hold)
            play(turns(lanes, plan.blocks, plan.growth_block))
            rows.append(_row("sync", case, size, lanes))
    return rows


async def _async(server: RunningServer, plan: Plan) -> list[dict[str, Any]]:
    settings = bench_settings(near_cache="on")
    rows = []
    client = redis.asyncio.Redis.from_url(server.url)
    with _maker(server) as maker:
        async with AsyncContextStore.connect(server.url, settings=settings) as store, client:
            readers = Readers(server, store, client, maker)
            for case, size in CASES:
                lanes = readers.lanes(case, size, _hold_async)
                await play_async(turns(lanes, plan.blocks, plan.growth_block))
                rows.append(_row("async", case, size, lanes))
    return rows


def _maker(server: RunningServer) -> ContextStore:
    return ContextStore.connect(server.url, settings=bench_settings())


def _hold(store: ContextStore, context_id: str) -> None:
    store.restore(context_id, shared=True)


async def _hold_async(store: AsyncContextStore, context_id: str) -> None:
    await store.restore(context_id, shared=True)


def _row(mode: str, case: str, size: str, lanes: list[Lane]) -> dict[str, Any]:
    ours, ping = (summarise(lane.took_ns) for lane in lanes)
    return {
        "mode": mode,
        "case": case,
        "size": size,
        "count": ours.count,
        "p50_us": ours.p50_us,
        "p99_us": ours.p99_us,
        "ping_p50_us": ping.p50_us,
        "ping_p99_us": ping.p99_us,
        "to_ping": round(ours.p50_us / ping.p50_us, 3),
    }
