"""The parts of a run, by the names that results and `--only` use.

What belongs here: which part measures what, on which servers. What does not: options, printing.
Invariant: every part starts on servers of its own, so that none meets what another left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from benchmarks import contest, crowd, growth, handoffs, heavy, memory, near, storm
from benchmarks.bodies import Body, bodies
from benchmarks.buses import crowding, steps
from benchmarks.buses import race as bus_race
from benchmarks.peers import race
from benchmarks.places import running
from benchmarks.plan import Plan
from lukhas_redis.testing import RunningServer, ServerBinary


@dataclass
class Bench:
    """What a part needs: the program, the counts, the CPUs, and the data."""

    binary: ServerBinary
    plan: Plan
    cpus: tuple[int, int] | None

    @cached_property
    def made(self) -> list[Body]:
        """Every body there is."""
        return bodies()

    def uncompressed(self, *sizes: str) -> list[Body]:
        """The bodies that are stored as they are, of these sizes or all."""
        return [body for body in self.made if body.variant == "none" and (not sizes or body.size in sizes)]

    def server(self) -> AbstractContextManager[RunningServer]:
        """An empty server."""
        return running(self.binary, self.cpus)


def _contests(bench: Bench) -> list[dict[str, Any]]:
    with bench.server() as server:
        rows = [row for body in bench.made for row in contest.measure(server, body, bench.plan)]
        return rows + [
            row for body in bench.made for row in asyncio.run(contest.measure_async(server, body, bench.plan))
        ]


def _storm(bench: Bench) -> list[dict[str, Any]]:
    with bench.server() as server:
        some = bench.uncompressed("1 kB", "10 kB")
        return [row for body in some for row in asyncio.run(storm.measure(server, body, bench.plan))]


def _handoffs(bench: Bench) -> list[dict[str, Any]]:
    with bench.server() as server:
        return handoffs.measure(server, bench.uncompressed(), bench.plan)


def _memory(bench: Bench) -> list[dict[str, Any]]:
    """1 kB, in sessions of ten and each in its own; then what compression makes of it, and ten times as much."""
    kinds = {(body.size, body.variant): body for body in bench.made}
    small, count = kinds["1 kB", "none"], bench.plan.memory_contexts
    others = [kinds["1 kB", "auto"], kinds["10 kB", "none"], kinds["10 kB", "auto"]]
    cases = [(small, count, 10), (small, count, 1), *((body, count, 10) for body in others)]
    with bench.server() as server:
        return memory.measure_all(server, cases)


def _crowd(bench: Bench) -> dict[str, Any]:
    with bench.server() as few, bench.server() as many:
        return crowd.measure(few, many, bench.made[0], bench.plan)


def _growth(bench: Bench) -> list[dict[str, Any]]:
    with bench.server() as server:
        return growth.measure(server, bench.plan)


def _near(bench: Bench) -> list[dict[str, Any]]:
    with bench.server() as server:
        return near.measure(server, bench.plan)


def _heavy(bench: Bench) -> dict[str, Any]:
    with bench.server() as server:
        return asyncio.run(heavy.measure(server, bench.plan))


def _peers(bench: Bench) -> list[dict[str, Any]]:
    with bench.server() as server:
        return asyncio.run(race.measure(server, bench.plan))


def _bus(bench: Bench) -> dict[str, Any]:
    with bench.server() as server:
        return {
            **bus_race.described(),
            "emits": asyncio.run(steps.emits(server, bench.plan)),
            "scripts": asyncio.run(steps.scripts(server, bench.plan)),
            "passed": bus_race.measure(server, bus_race.OWN, bench.plan),
            "behind": crowding.behind(server, bench.plan),
            "herd": asyncio.run(crowding.herd(server, bench.plan)),
        }


def _bus_peers(bench: Bench) -> dict[str, Any]:
    with bench.server() as server:
        return {**bus_race.described(), "sides": bus_race.measure(server, bus_race.SIDES, bench.plan)}


PARTS: Mapping[str, Callable[[Bench], Any]] = MappingProxyType(
    {
        "contests": _contests,
        "memory": _memory,
        "storm": _storm,
        "handoffs": _handoffs,
        "crowd": _crowd,
        "growth": _growth,
        "near": _near,
        "heavy": _heavy,
        "peers": _peers,
        "bus": _bus,
        "bus_peers": _bus_peers,
    }
)
