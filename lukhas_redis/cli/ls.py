"""`lukhas ls`: live contexts.

What belongs here: the listing and its filters. What does not: one context (`show`).
Invariant: reads only.
"""

from __future__ import annotations

from itertools import islice

import click

from lukhas_redis.cli import shapes
from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import print_json, print_table, size, span

_PAGE = 500


@click.command("ls", cls=Leaf)
@click.option("--session", "session_id", metavar="ID", help="Only contexts of this session.")
@click.option("--type", "context_type", metavar="TYPE", help="Only contexts of this type.")
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True, help="At most so many; 0 = all.")
@pass_session
def ls(session: Session, session_id: str | None, context_type: str | None, limit: int) -> None:
    """List live contexts, soonest deadline first on each shard."""
    with session.store() as store:
        listed = store.list(session_id=session_id, context_type=context_type, page=min(_PAGE, limit + 1 or _PAGE))
        found = list(islice(listed, limit + 1) if limit else listed)
    more = bool(limit) and len(found) > limit
    if more:
        found = found[:limit]
    if session.json:
        print_json([shapes.context(one) for one in found])
    else:
        print_table(
            ("ID", "SESSION", "TYPE", "OWNER", "VERSION", "EXPIRES IN", "SIZE", "PINNED"),
            (
                (
                    one.context_id, one.session_id, one.context_type, one.owner or "-", one.version,
                    span(one.expires_ms - one.now_ms), size(one.stored_bytes), "yes" if one.pinned else "-",
                )
                for one in found
            ),
        )  # fmt: skip
    if more:
        session.say(f"only the first {limit}; --limit 0 lists all")
    elif not found:
        session.say(f"no live context of tenant {session.settings.tenant} matches")
