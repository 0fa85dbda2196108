"""The command: options, what is printed and kept.

What belongs here: running parts on every server. What does not: any measurement (`parts` has the list of them).
Invariant: a run that ended has measured every part, or is marked with those it has (`--only`) and is kept only where
asked; one that was broken off keeps nothing of the server it was at.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.aims import Results, judged
from benchmarks.keeping import RESULTS, keep, update_document
from benchmarks.parts import PARTS, Bench
from benchmarks.places import facts, pinned
from benchmarks.plan import FULL, QUICK, USUAL, Plan
from benchmarks.tables import heading, plain, tables
from lukhas_redis.testing import ServerBinary, default_binary, server_binaries


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure on every server program of this machine, print, and keep the results."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(words)
    if options.update_docs:
        update_document(options.out or RESULTS)
        return
    default_binary()  # says what is missing when there is none
    for binary in server_binaries():
        command = shlex.join(["python", "-m", "benchmarks", *words])
        results = run(binary, options.plan, command=command, only=options.only)
        show(results)
        if options.out or not options.only:
            print(f"kept in {keep(results, options.out or RESULTS)}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="The store against raw redis-py.")
    counts = parser.add_mutually_exclusive_group()
    quick = "small counts, for a look; not for conclusions"
    full = "twice the counts, and a tenant of 1,000,000 contexts"
    counts.add_argument("--quick", dest="plan", action="store_const", const=QUICK, default=USUAL, help=quick)
    counts.add_argument("--full", dest="plan", action="store_const", const=FULL, default=USUAL, help=full)
    parser.add_argument("--out", metavar="DIR", type=Path, help=f"folder of the results ({RESULTS})")
    some = f"these parts alone, of {','.join(PARTS)}; kept only where --out says, and never in the document"
    parser.add_argument("--only", metavar="PART,...", type=_parts, default=(), help=some)
    docs = "run nothing: make the tables of docs/performance.md from the results in --out"
    parser.add_argument("--update-docs", action="store_true", help=docs)
    return parser


def _parts(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    return names


def run(binary: ServerBinary, plan: Plan, *, command: str, only: Sequence[str] = ()) -> Results:
    """Every part, or some, on one server program; the result is what the file holds."""
    with pinned(plan.pin) as cpus:
        bench = Bench(binary, plan, cpus)
        with bench.server() as server:
            machine = facts(server, plan.name, command, cpus)
        results: Results = {"machine": {**machine, "only": list(only)} if only else machine}
        for name, part in PARTS.items():
            if not only or name in only:
                print(f"  {binary.id}: {name}", file=sys.stderr, flush=True)
                results[name] = part(bench)
    return _plain_json({**results, "aims": judged(results)})


def show(results: Results) -> None:
    """Print everything that was measured on one server; the aims come last, where they are seen."""
    first, *others = [plain(table) for table in tables(results)]
    last = [first] if results["aims"] else []
    print("\n\n".join([f"{results['machine']['server']}: {heading(results)}", *others, *last]))
    if results["machine"]["plan"] == "quick":
        print("\nA quick run: its figures are for a look, not for conclusions.")


def _plain_json(results: Results) -> Results:
    """As reading the file gives it."""
    read: dict[str, Any] = json.loads(json.dumps(results))
    return read
