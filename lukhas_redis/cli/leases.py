"""`lukhas lease`, `lukhas renew`, `lukhas release`: who alone may write a context.

What belongs here: the three commands. What does not: refusing writes (`lua/includes/lease.lua`).
Invariant: a lease is ended by whoever has its token, or by a person who was shown whose it is.
"""

from __future__ import annotations

import click

from lukhas_redis.cli import shapes
from lukhas_redis.cli.change import dry
from lukhas_redis.cli.failures import NotSet
from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import moment, print_json
from lukhas_redis.models import Lease, Metadata

ttl_option = click.option(
    "--ttl",
    type=click.FloatRange(0.1, 86_400),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="For how long.",
)
TOKEN = click.IntRange(min=1)


@click.command("lease", cls=Leaf)
@click.argument("context_id", metavar="ID")
@click.argument("owner")
@ttl_option
@dry
@pass_session
def lease(session: Session, context_id: str, owner: str, ttl: float, *, dry_run: bool) -> None:
    """Let OWNER alone write a context; prints the token that its writes must carry."""
    with session.store() as store:
        _print(session, store.lease(context_id, owner, ttl, dry_run=dry_run or None), "would lease", "leased")


@click.command("renew", cls=Leaf)
@click.argument("context_id", metavar="ID")
@click.argument("token", type=TOKEN)
@ttl_option
@dry
@pass_session
def renew(session: Session, context_id: str, token: int, ttl: float, *, dry_run: bool) -> None:
    """Let a live lease end so many seconds from now."""
    with session.store() as store:
        held = store.renew(Lease(context_id, "", token, 0), ttl, dry_run=dry_run or None)
    _print(session, held, "would renew", "renewed")


@click.command("release", cls=Leaf)
@click.argument("context_id", metavar="ID")
@click.argument("token", type=TOKEN, required=False)
@dry
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@pass_session
def release(session: Session, context_id: str, token: int | None, *, dry_run: bool, yes: bool) -> None:
    """End a live lease. Without TOKEN: whoever's it is, after asking; that worker's next write is then refused."""
    with session.store() as store:
        held = Lease(context_id, "", token, 0) if token else _live(store.metadata(context_id))
        if not token and not dry_run:
            until = moment(held.until_ms)
            session.confirm(f"End the lease of {held.owner} on {held.context_id} (until {until})?", yes=yes)
        ended = store.release(held, dry_run=dry_run or None)
    if session.json:
        print_json({"context_id": ended.context_id, "token": ended.token, "dry_run": ended.dry_run})
    else:
        click.echo(f"{'would release' if ended.dry_run else 'released'} {ended.context_id}, token {ended.token}")


def _live(known: Metadata) -> Lease:
    if known.lease is None:
        raise NotSet(f"context {known.context_id} is not leased", context_id=known.context_id)
    return known.lease


def _print(session: Session, held: Lease, would: str, did: str) -> None:
    if session.json:
        print_json({"context_id": held.context_id, **shapes.lease(held), "dry_run": held.dry_run})
        return
    word, until = would if held.dry_run else did, moment(held.until_ms)
    click.echo(f"{word} {held.context_id} to {held.owner} until {until}, token {held.token}")
