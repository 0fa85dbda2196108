"""`lukhas sweep`: expired contexts out of the accounts now, instead of with the next writes.

What belongs here: the command. What does not: what is expired (`lua/sweep.lua`).
Invariant: touches nothing that is alive, so it does not ask.
"""

from __future__ import annotations

import click

from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import print_json


@click.command("sweep", cls=Leaf)
@click.option("--limit", type=click.IntRange(min=1), default=10_000, show_default=True, help="At most so many.")
@click.option("--dry-run", is_flag=True, help="Say what would happen and change nothing.")
@pass_session
def sweep(session: Session, limit: int, *, dry_run: bool) -> None:
    """Take expired contexts out of the accounts and give their memory back."""
    with session.store() as store:
        done = store.sweep(limit=limit, dry_run=dry_run or None)
    if session.json:
        print_json({"removed": done.removed, "remaining": done.remaining, "dry_run": done.dry_run})
    else:
        click.echo(f"{'would remove' if done.dry_run else 'removed'} {done.removed}, {done.remaining} remain")
