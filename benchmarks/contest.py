"""preserve and restore against redis-py, one call at a time: the sides and what each of them does.

What belongs here: lanes for our store, for raw SET and GET of the same stored bytes, and for the same data as JSON.
What does not: the order of turns (`duel`). Invariant: within a contest all sides move data of one body on one server,
and the raw side stores exactly the bytes that our store stores.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import redis
import redis.asyncio

from benchmarks.bodies import Body
from benchmarks.duel import Lane, Turn, play, play_async, turns
from benchmarks.meters import Meter, stage_us
from benchmarks.places import bench_settings
from benchmarks.plan import Plan
from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.store import ContextStore
from lukhas_redis.testing import RunningServer

CASES = ("preserve, new id", "preserve, same id", "restore, first read", "restore")
_PER_SESSION = 20
_STAGE_CALLS = 30


class Contest:
    """The lanes of one body on one server; `store` and `client` are both blocking or both asyncio."""

    def __init__(self, server: RunningServer, store: Any, client: Any, body: Body, stage_us: float) -> None:
        self.store, self.client, self.body = store, client, body
        self.meter = Meter(server)
        self.stage_us = stage_us
        self.ids: list[str] = []

    @property
    def staged(self) -> bool:
        """Whether the body travels beside the script: then it is fetched with a GET of its own, too."""
        return _staged(self.body)

    def cases(self) -> Iterator[tuple[str, list[Lane]]]:
        """The cases in an order in which each finds what the one before has left."""
        new, same, first, again = CASES
        yield new, [self._preserve(same=False), *self._sets(same=False)]
        yield same, [self._preserve(same=True), *self._sets(same=True)]
        yield first, [self._restore(), *self._gets()]
        yield again, [self._restore(), *self._gets()]

    def _preserve(self, *, same: bool) -> Lane:
        store, data, compression, ids = self.store, self.body.data, self.body.compression, self.ids

        def anew(number: int) -> Any:
            return store.preserve(f"session-{number // _PER_SESSION}", data, compression=compression)

        def again(_: int) -> Any:
            return store.preserve("session-0", data, compression=compression, context_id=ids[0])

        # A stage that was not renamed is removed by a third command of the unit, so it is counted as well.
        commands, extra = (("evalsha", "unlink"), self.stage_us) if self.staged else (("evalsha",), 0.0)
        if same:
            return Lane("ours", again, self.meter, commands, extra)
        return Lane("ours", anew, self.meter, commands, extra, note=lambda stored: ids.append(stored.context_id))

    def _restore(self) -> Lane:
        store, ids = self.store, self.ids
        # The script of a small body runs a GET itself, which is part of its EVALSHA already.
        commands = ("evalsha", "get") if self.staged else ("evalsha",)
        return Lane("ours", lambda number: store.restore(ids[number]), self.meter, commands)

    def _sets(self, *, same: bool) -> list[Lane]:
        client, data, stored = self.client, self.body.data, self.body.stored
        many = 0 if same else 1
        return [
            Lane("raw", lambda number: client.set(f"raw:{number * many}", stored), self.meter, ("set",)),
            Lane("json", lambda number: client.set(f"json:{number * many}", json.dumps(data)), self.meter, ("set",)),
        ]

    def _gets(self) -> list[Lane]:
        client = self.client
        return [
            Lane("raw", lambda number: client.get(f"raw:{number}"), self.meter, ("get",)),
            Lane("json", lambda number: client.get(f"json:{number}"), self.meter, ("get",), then=json.loads),
        ]


def measure(server: RunningServer, body: Body, plan: Plan) -> list[dict[str, Any]]:
    """Every case, with the blocking clients."""
    rows = []
    with _both(server) as (store, client):
        contest = Contest(server, store, client, body, _stage_us(server, store, body))
        for case, lanes in contest.cases():
            play(_turns(lanes, body, plan))
            rows.append(_row("sync", case, body, lanes))
    server.admin.flushall(asynchronous=False)
    return rows


async def measure_async(server: RunningServer, body: Body, plan: Plan) -> list[dict[str, Any]]:
    """Every case, with the asyncio clients."""
    rows = []
    with _both(server) as (blocking, _):
        stage = _stage_us(server, blocking, body)
    async with both_async(server) as (store, client):
        contest = Contest(server, store, client, body, stage)
        for case, lanes in contest.cases():
            await play_async(_turns(lanes, body, plan))
            rows.append(_row("async", case, body, lanes))
    server.admin.flushall(asynchronous=False)
    return rows


@contextmanager
def _both(server: RunningServer) -> Generator[tuple[ContextStore, redis.Redis]]:
    store = ContextStore.connect(server.url, settings=bench_settings())
    with store, redis.Redis.from_url(server.url) as client:
        yield store, client


@asynccontextmanager
async def both_async(server: RunningServer) -> AsyncGenerator[tuple[AsyncContextStore, redis.asyncio.Redis]]:
    """Our store and redis-py's client as its documentation makes it."""
    async with AsyncContextStore.connect(server.url, settings=bench_settings()) as store:
        client = redis.asyncio.Redis.from_url(server.url)
        try:
            yield store, client
        finally:
            await client.aclose()


def _staged(body: Body) -> bool:
    return len(body.stored) > bench_settings().inline_body_bytes


def _stage_us(server: RunningServer, store: ContextStore, body: Body) -> float:
    return stage_us(server, store, body, _STAGE_CALLS) if _staged(body) else 0.0


def _turns(lanes: list[Lane], body: Body, plan: Plan) -> Iterator[Turn]:
    return turns(lanes, plan.blocks, plan.block[body.size])


def _row(mode: str, case: str, body: Body, lanes: list[Lane]) -> dict[str, Any]:
    summaries = {lane.name: lane.summary() for lane in lanes}
    ours = summaries["ours"]["p50_us"]
    return {
        "mode": mode,
        "size": body.size,
        "variant": body.variant,
        "case": case,
        "raw_bytes": body.raw_bytes,
        "stored_bytes": len(body.stored),
        "json_bytes": body.json_bytes,
        "lanes": summaries,
        "to_raw": round(ours / summaries["raw"]["p50_us"], 3),
        "to_json": round(ours / summaries["json"]["p50_us"], 3),
    }
