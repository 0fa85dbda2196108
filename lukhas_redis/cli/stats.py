"""`lukhas stats`: a tenant at a glance, once or every few seconds.

What belongs here: use, limits, mode, totals. What does not: judging them (`doctor`).
Invariant: reads only.
"""

from __future__ import annotations

import sys
import time

import click

from lukhas_redis.cli import shapes
from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import moment, print_facts, print_json, print_json_line, print_table, size
from lukhas_redis.models import Stats

_CLEAR = "\033[H\033[2J"


@click.command("stats", cls=Leaf)
@click.option("--watch", "-w", metavar="SECONDS", type=click.FloatRange(min=0.1), help="Again every so many seconds.")
@pass_session
def stats(session: Session, watch: float | None) -> None:
    """Show use, limits and mode of the tenant. With --watch and -o json: one object a line."""
    with session.store() as store:
        if watch is None:
            _print(session, store.stats())
            return
        while True:
            found = store.stats()
            if session.json:
                print_json_line(shapes.stats(found))
            else:
                click.echo(_CLEAR if sys.stdout.isatty() else "", nl=False)
                _print(session, found)
                click.echo()
                sys.stdout.flush()
            time.sleep(watch)


def _print(session: Session, found: Stats) -> None:
    if session.json:
        print_json(shapes.stats(found))
        return
    now_ms = max(shard.now_ms for shard in found.shards)
    print_facts(
        [
            ("tenant", found.tenant),
            ("at", moment(now_ms)),
            ("mode", found.mode),
            ("contexts", f"{found.live} of {found.max_entries}"),
            ("bytes", f"{size(found.bytes)} of {size(found.max_bytes) if found.max_bytes else 'no limit'}"),
            ("pressure", f"{found.pressure:.2f}{'  (over 0.85)' if found.alert else ''}"),
            ("when full", found.policy),
            ("expired", f"{found.expired} still in the accounts"),
            ("shards", len(found.shards)),
        ]
    )
    totals = shapes.stats(found)["totals"]
    if totals:
        click.echo()
        print_table(("TOTAL", "VALUE"), totals.items())
