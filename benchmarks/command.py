"""The command: options, the order of the parts, what is printed and kept.

What belongs here: running every part on every server. What does not: any measurement. Invariant: a run that ended has
measured every part; one that was broken off keeps nothing of the server it was at.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import contest, crowd, handoffs, memory, storm
from benchmarks.aims import Results, judged
from benchmarks.bodies import Body, bodies
from benchmarks.keeping import RESULTS, keep, update_document
from benchmarks.places import facts, pinned, running
from benchmarks.plan import FULL, QUICK, USUAL, Plan
from benchmarks.tables import heading, plain, tables
from lukhas_redis.testing import ServerBinary, default_binary, server_binaries


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure on every server program of this machine, print, and keep the results."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(words)
    if options.update_docs:
        update_document(options.out)
        return
    default_binary()  # says what is missing when there is none
    for binary in server_binaries():
        results = run(binary, options.plan, command=shlex.join(["python", "-m", "benchmarks", *words]))
        show(results)
        print(f"kept in {keep(results, options.out)}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The store against raw redis-py.")
    counts = parser.add_mutually_exclusive_group()
    quick = "small counts, for a look; not for conclusions"
    full = "twice the counts, and a tenant of 1,000,000 contexts"
    counts.add_argument("--quick", dest="plan", action="store_const", const=QUICK, default=USUAL, help=quick)
    counts.add_argument("--full", dest="plan", action="store_const", const=FULL, default=USUAL, help=full)
    parser.add_argument("--out", metavar="DIR", type=Path, default=RESULTS, help="folder of the results (%(default)s)")
    docs = "run nothing: make the tables of docs/performance.md from the results in --out"
    parser.add_argument("--update-docs", action="store_true", help=docs)
    return parser


def run(binary: ServerBinary, plan: Plan, *, command: str) -> Results:
    """Every part on one server program; the result is what the file holds."""
    made = bodies()
    with pinned(plan.pin) as cpus:
        with running(binary, cpus) as server:
            machine = facts(server, plan.name, command, cpus)
            _say(f"{server.id}: {len(made)} bodies against redis-py")
            rows = [row for body in made for row in contest.measure(server, body, plan)]
            rows += [row for body in made for row in asyncio.run(contest.measure_async(server, body, plan))]
            _say(f"{server.id}: many tasks, handoffs, memory")
            storms = [row for body in _small(made) for row in asyncio.run(storm.measure(server, body, plan))]
            hops = handoffs.measure(server, _uncompressed(made), plan)
        with running(binary, cpus) as server:
            sizes = memory.measure_all(server, _memory_cases(made, plan))
        _say(f"{binary.id}: few and many contexts")
        with running(binary, cpus) as few, running(binary, cpus) as many:
            crowds = crowd.measure(few, many, made[0], plan)
    results: Results = {"machine": machine, "contests": rows, "memory": sizes, "storm": storms, "handoffs": hops}
    results["crowd"] = crowds
    return _plain_json({**results, "aims": judged(results)})


def _small(made: list[Body]) -> list[Body]:
    return [body for body in _uncompressed(made) if body.size in {"1 kB", "10 kB"}]


def _uncompressed(made: list[Body]) -> list[Body]:
    return [body for body in made if body.variant == "none"]


def _memory_cases(made: list[Body], plan: Plan) -> list[tuple[Body, int, int]]:
    """1 kB, in sessions of ten and each in its own; then what compression makes of it, and ten times as much."""
    kinds = {(body.size, body.variant): body for body in made}
    small, count = kinds["1 kB", "none"], plan.memory_contexts
    others = [kinds["1 kB", "auto"], kinds["10 kB", "none"], kinds["10 kB", "auto"]]
    return [(small, count, 10), (small, count, 1), *((body, count, 10) for body in others)]


def show(results: Results) -> None:
    """Print everything that was measured on one server; the aims come last, where they are seen."""
    first, *others = [plain(table) for table in tables(results)]
    print("\n\n".join([f"{results['machine']['server']}: {heading(results)}", *others, first]))
    if results["machine"]["plan"] == "quick":
        print("\nA quick run: its figures are for a look, not for conclusions.")


def _plain_json(results: Results) -> Results:
    """As reading the file gives it."""
    read: dict[str, Any] = json.loads(json.dumps(results))
    return read


def _say(what: str) -> None:
    print(f"  {what}", file=sys.stderr, flush=True)
