"""Whether the number of contexts a tenant holds matters: the same calls beside few and beside many, in turns.

What belongs here: two servers, filled differently. What does not: what one call costs in detail (`contest`).
Invariant: neither tenant grows while it is measured: what a turn adds is dropped after it, outside the figures.
"""

from __future__ import annotations

import random
import sys
from typing import Any

from benchmarks.bodies import Body
from benchmarks.duel import Lane, play, turns
from benchmarks.memory import fill
from benchmarks.meters import Meter
from benchmarks.places import bench_settings
from benchmarks.plan import Plan
from lukhas_redis.store import ContextStore
from lukhas_redis.testing import RunningServer

_KNOWN_IDS = 10_000


class Side:
    """One tenant on a server of its own, with so many contexts."""

    def __init__(self, name: str, server: RunningServer, body: Body, contexts: int) -> None:
        self.name, self.contexts, self.body = name, contexts, body
        self.meter = Meter(server)
        self.store = ContextStore.connect(server.url, settings=bench_settings())
        ids = fill(self.store, body, contexts)
        self.known = random.Random(contexts).sample(ids, min(_KNOWN_IDS, contexts))
        self._added: list[str] = []

    def preserve(self) -> Lane:
        """New ids, dropped after each turn."""

        def call(number: int) -> Any:
            return self.store.preserve(f"probe-{number // 20}", self.body.data, compression=self.body.compression)

        note = self._note
        return Lane(self.name, call, self.meter, ("evalsha",), note=note, after=self._forget)

    def restore(self) -> Lane:
        """Ids from all over the tenant; the read is not noted, as that would cost the first read of each more."""
        known = self.known

        def call(number: int) -> Any:
            return self.store.restore(known[number % len(known)], touch=False)

        return Lane(self.name, call, self.meter, ("evalsha",))

    def _note(self, stored: Any) -> None:
        self._added.append(stored.context_id)

    def _forget(self) -> None:
        for context_id in self._added:
            self.store.drop(context_id)
        self._added.clear()


def measure(few: RunningServer, many: RunningServer, body: Body, plan: Plan) -> dict[str, Any]:
    """The server's microseconds and the whole time of a call, beside `plan.few` and `plan.crowd` contexts."""
    print(f"  filling {many.id} with {plan.crowd:,} contexts", file=sys.stderr)
    sides = [Side("few", few, body, plan.few), Side("many", many, body, plan.crowd)]
    result: dict[str, Any] = {"few": plan.few, "many": plan.crowd, "size": body.size, "variant": body.variant}
    for case, lanes in (
        ("preserve", [side.preserve() for side in sides]),
        ("restore", [side.restore() for side in sides]),
    ):
        play(turns(lanes, plan.blocks, plan.crowd_block))
        summaries = {lane.name: lane.summary() for lane in lanes}
        result[case] = {
            **summaries,
            "server_ratio": round(summaries["many"]["server_us"] / summaries["few"]["server_us"], 3),
        }
    result["memory_bytes"] = int(many.info("memory")["used_memory"])
    for side in sides:
        side.store.close()
    return result
