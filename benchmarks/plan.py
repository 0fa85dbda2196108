"""How much is measured: counts for a quick look, for the usual run and for the full one.

What belongs here: numbers. What does not: measuring. Invariant: plans differ in counts only, never in what is measured,
so their figures can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

KB, MB = 1024, 1024 * 1024
SIZES = {"1 kB": KB, "10 kB": 10 * KB, "100 kB": 100 * KB, "1 MB": MB}
GROWING = {"10 kB": 10 * KB, "100 kB": 100 * KB, "1 MB": MB, "9 MB": 9 * MB}
MANY_CONTEXTS = 1_000_000
FEW_CONTEXTS = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """The counts of one run.

    `blocks`: turns of each side after the one that warms it up. `block`: calls in a turn, by size. `crowd`: contexts
    of the large tenant, `few` of the small one. `storm_block`: calls in a turn of the concurrent part. `old_hops`:
    handoffs behind a context before more are measured. `peer_runs`: how often each side plays each recorded run.
    `growth_block`: calls in a turn of appends and of reads by a near cache. `heavy_preserves`: large writes in a phase
    beside which small calls are timed; `heavy_calls`: those of each task in a phase without large writes;
    `heavy_phases`: of either kind. `bus_rounds`: how often each side of the race of buses plays; `bus_events`: of one
    phase; `bus_idle`: events that go one at a time; `bus_seconds`: how long events come at half the load; `bus_behind`:
    events of low priority before an urgent one; `bus_shared`: events that several workers share. `pin`: keep client and
    server on a CPU each, where possible.
    """

    name: str
    blocks: int
    block: dict[str, int]
    memory_contexts: int
    crowd: int
    few: int = FEW_CONTEXTS
    crowd_block: int = 200
    storm_block: int = 1_600
    tasks: int = 32
    old_hops: int = 1_000
    peer_runs: int = 10
    growth_block: int = 10
    heavy_preserves: int = 10
    heavy_calls: int = 100
    heavy_phases: int = 4
    bus_rounds: int = 3
    bus_events: int = 5_000
    bus_idle: int = 300
    bus_seconds: float = 5.0
    bus_behind: int = 100_000
    bus_shared: int = 200
    pin: bool = True


_BLOCK = {"1 kB": 100, "10 kB": 50, "100 kB": 25, "1 MB": 10}
QUICK = Plan(
    "quick",
    blocks=5,
    block=_BLOCK,
    memory_contexts=2_000,
    crowd=10_000,
    peer_runs=3,
    heavy_phases=2,
    bus_rounds=2,
    bus_events=1_000,
    bus_idle=100,
    bus_seconds=1.0,
    bus_behind=5_000,
)
USUAL = Plan("usual", blocks=30, block=_BLOCK, memory_contexts=2_000, crowd=100_000)
FULL = Plan(
    "full",
    blocks=60,
    block=_BLOCK,
    memory_contexts=2_000,
    crowd=MANY_CONTEXTS,
    peer_runs=20,
    heavy_phases=8,
    bus_rounds=5,
)
