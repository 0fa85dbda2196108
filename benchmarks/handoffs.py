"""Whether a handoff costs more for a large context, or for one that was handed over often.

What belongs here: lanes of handoffs. What does not: preserve and restore.
Invariant: "first" lanes hand every context over once, so no context gets older than its lane says.
"""

from __future__ import annotations

from typing import Any

from benchmarks.bodies import Body
from benchmarks.duel import Lane, play, turns
from benchmarks.memory import fill
from benchmarks.meters import Meter
from benchmarks.places import bench_settings
from benchmarks.plan import Plan
from lukhas_redis.store import ContextStore
from lukhas_redis.testing import RunningServer

_PROVIDERS = ("alpha", "beta")
_KEPT_HOPS = 32
_BLOCK_SIZE = "1 MB"


def measure(server: RunningServer, bodies: list[Body], plan: Plan) -> list[dict[str, Any]]:
    """First handoffs of contexts of every size; later ones of the smallest, with a full list of hops behind it."""
    block = plan.block[_BLOCK_SIZE]
    with ContextStore.connect(server.url, settings=bench_settings()) as store:
        meter = Meter(server)
        lanes = [_first(store, meter, body, (plan.blocks + 1) * block) for body in bodies]
        rows = [{"size": body.size, "hops": 0} for body in bodies]
        for hops in (_KEPT_HOPS, plan.old_hops):
            lanes.append(_later(store, meter, bodies[0], hops))
            rows.append({"size": bodies[0].size, "hops": hops})
        play(turns(lanes, plan.blocks, block))
    server.admin.flushall(asynchronous=False)
    return [{**row, **lane.summary()} for row, lane in zip(rows, lanes, strict=True)]


def _first(store: ContextStore, meter: Meter, body: Body, contexts: int) -> Lane:
    ids = fill(store, body, contexts)
    return Lane("first", lambda number: store.handoff(ids[number], *_PROVIDERS), meter, ("evalsha",))


def _later(store: ContextStore, meter: Meter, body: Body, hops: int) -> Lane:
    (context_id,) = fill(store, body, 1)

    def call(number: int) -> Any:
        source, destination = _PROVIDERS if number % 2 == 0 else _PROVIDERS[::-1]
        return store.handoff(context_id, source, destination)

    for number in range(hops):
        call(number)
    return Lane("later", lambda number: call(number + hops), meter, ("evalsha",))
