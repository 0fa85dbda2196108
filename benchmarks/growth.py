"""What an append costs beside what is there already: 1 kB onto contexts of 10 kB to 9 MB.

What belongs here: lanes of appends, one for each size, in turns. What does not: reading what was appended (`near`).
Invariant: every turn has a context of its own of exactly the size its row says, whose structure the process has seen
(the first append of a process to a context reads it once, and is not counted).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import cache
from typing import Any

from benchmarks.bodies import conversation, message
from benchmarks.duel import Lane, play, play_async, turns
from benchmarks.meters import Meter
from benchmarks.places import bench_settings
from benchmarks.plan import GROWING, KB, Plan
from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.settings import Settings
from lukhas_redis.store import ContextStore
from lukhas_redis.testing import RunningServer

APPENDED_BYTES = KB
_PATH = ("messages",)
_NEAR = ("off", "on")


class Growing:
    """Contexts of one size, a new one for every turn; `maker` preserves them outside the clock."""

    def __init__(self, maker: ContextStore, size: str) -> None:
        self._maker, self._size = maker, size
        self.id = ""

    def renew(self) -> str:
        """Drop the context of the turn before, and preserve the next."""
        if self.id:
            self._maker.drop(self.id)
        self.id = self._maker.preserve("growing", data(self._size)).context_id
        return self.id

    def grow(self, number: int) -> None:
        """Let the maker, a process of its own to the others, append one message."""
        self._maker.append(self.id, _PATH, [message(number)])


@cache
def data(size: str) -> dict[str, Any]:
    """The conversation of one of the sizes."""
    return conversation(GROWING[size])


def measure(server: RunningServer, plan: Plan) -> list[dict[str, Any]]:
    """Every size, blocking and asyncio, with the near cache off and on."""
    rows = []
    for near in _NEAR:
        settings = bench_settings(near_cache=near)
        rows += _sync(server, plan, settings)
        rows += asyncio.run(_async(server, plan, settings))
    server.admin.flushall(asynchronous=False)
    return rows


def _sync(server: RunningServer, plan: Plan, settings: Settings) -> list[dict[str, Any]]:
    with _maker(server) as maker, ContextStore.connect(server.url, settings=settings) as store:
        lanes = [_lane(store, Growing(maker, size), Meter(server), _seen) for size in GROWING]
        play(turns(lanes, plan.blocks, plan.growth_block))
    return list(_rows("sync", settings.near_cache, lanes))


async def _async(server: RunningServer, plan: Plan, settings: Settings) -> list[dict[str, Any]]:
    with _maker(server) as maker:
        async with AsyncContextStore.connect(server.url, settings=settings) as store:
            lanes = [_lane(store, Growing(maker, size), Meter(server), _seen_async) for size in GROWING]
            await play_async(turns(lanes, plan.blocks, plan.growth_block))
    return list(_rows("async", settings.near_cache, lanes))


def _maker(server: RunningServer) -> ContextStore:
    return ContextStore.connect(server.url, settings=bench_settings())


def _lane(store: Any, growing: Growing, meter: Meter, seen: Any) -> Lane:
    def call(number: int) -> Any:
        return store.append(growing.id, _PATH, [message(number)])

    # The message is made (and kept) before the clock starts.
    lane = Lane("append", call, meter, ("evalsha",), before=message)
    lane.prepare = lambda first: seen(store, growing.renew(), first)
    return lane


def _seen(store: ContextStore, context_id: str, first: int) -> None:
    store.restore(context_id, shared=True)
    store.append(context_id, _PATH, [message(first)])


async def _seen_async(store: AsyncContextStore, context_id: str, first: int) -> None:
    await store.restore(context_id, shared=True)
    await store.append(context_id, _PATH, [message(first)])


def _rows(mode: str, near: str, lanes: list[Lane]) -> Iterator[dict[str, Any]]:
    smallest = lanes[0].summary()["p50_us"]
    for size, lane in zip(GROWING, lanes, strict=True):
        summary = lane.summary()
        yield {
            "mode": mode,
            "near": near,
            "size": size,
            "appended_bytes": APPENDED_BYTES,
            **summary,
            "to_smallest": round(summary["p50_us"] / smallest, 3),
        }
