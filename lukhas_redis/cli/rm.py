"""`lukhas rm`: drop a context.

What belongs here: asking, and dropping. What does not: removing many (let them expire, or loop over `ls`).
Invariant: nothing is dropped that the person did not confirm, nor another incarnation than the one they were shown.
"""

from __future__ import annotations

import click

from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import clean, print_json, size


@click.command("rm", cls=Leaf)
@click.argument("context_id", metavar="ID")
@click.option("--dry-run", is_flag=True, help="Say what would happen and change nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@pass_session
def rm(session: Session, context_id: str, *, dry_run: bool, yes: bool) -> None:
    """Drop a context; readers are told that it was dropped, for an hour by default."""
    with session.store() as store:
        known = store.metadata(context_id)
        what = f"{known.context_id} (session {clean(known.session_id)}, {known.context_type}, {size(known.raw_bytes)})"
        if not dry_run:
            session.confirm(f"Drop context {what}?", yes=yes)
        dropped = store.drop(known.context_id, if_version=known.version, dry_run=dry_run or None)
    if session.json:
        print_json({"context_id": dropped.context_id, "version": dropped.version, "dry_run": dropped.dry_run})
    else:
        click.echo(f"{'would drop' if dropped.dry_run else 'dropped'} {what}")
