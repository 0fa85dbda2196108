"""`lukhas check`, `lukhas repair`: whether a tenant's accounts are sound, and making them so.

What belongs here: the two commands. What does not: what a fault is (`lua/includes/faults.lua`).
Invariant: check changes nothing; repair is confirmed by a person or by `--yes`.
"""

from __future__ import annotations

import click

from lukhas_redis.cli import shapes
from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import print_json, print_table
from lukhas_redis.models import Checked


@click.command("check", cls=Leaf)
@click.pass_context
def check(ctx: click.Context) -> None:
    """Look for faults in the tenant's accounts; exit code 1 when there are any. Changes nothing."""
    session = ctx.ensure_object(Session)
    with session.store() as store:
        found = store.check()
    _print(session, found)
    ctx.exit(0 if found.sound else 1)


@click.command("repair", cls=Leaf)
@click.option("--dry-run", is_flag=True, help="Say what would be repaired and change nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@pass_session
def repair(session: Session, *, dry_run: bool, yes: bool) -> None:
    """Make the accounts follow the data; contexts whose data is lost are buried with an event."""
    with session.store() as store:
        found = store.check()
        if not dry_run and not found.sound:
            session.confirm(f"Repair {_summary(found)} of tenant {store.tenant}?", yes=yes)
            found = store.repair()
    _print(session, found)


def _print(session: Session, found: Checked) -> None:
    if session.json:
        print_json(shapes.accounts(found))
        return
    if found.faults:
        print_table(("ID", "FAULT"), [(fault.context_id, fault.fault) for fault in found.faults])
    if found.sound:
        click.echo("sound")
    else:
        click.echo(f"{'repaired' if found.repaired else 'found'}: {_summary(found)}")


def _summary(found: Checked) -> str:
    parts = [f"{len(found.faults)} faults"]
    if found.bytes_off or found.entries_off:
        parts.append(f"totals off by {found.entries_off} contexts and {found.bytes_off} bytes")
    if found.bytes_off is None:
        parts.append("totals not counted (too many contexts)")
    return ", ".join(parts)
