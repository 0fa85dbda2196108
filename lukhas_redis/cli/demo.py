"""`lukhas demo`: the demonstration.

What belongs here: its options. What does not: the demonstration itself (`lukhas_redis.demo`).
Invariant: the exit code is the demo's own: 0 only when everything was verified.
"""

from __future__ import annotations

import os

import click

from lukhas_redis.cli.frame import Leaf, Session


@click.command("demo", cls=Leaf)
@click.option("--keep", is_flag=True, help="Leave server and contexts for looking at.")
@click.pass_context
def demo(ctx: click.Context, *, keep: bool) -> None:
    """Pass agent runs between four worker processes, kill one of them on the way, and verify every bit.

    Takes less than 30 seconds. Starts a server of its own and stops it again; with --url it uses that server instead,
    as a random tenant, which it removes again.
    """
    from lukhas_redis.demo.command import run

    session = ctx.ensure_object(Session)
    if session.tenant is not None:
        raise click.UsageError("the demo makes a tenant of its own: it takes no --tenant")
    if session.config is not None:
        os.environ["LUKHAS_CONFIG"] = session.config  # for the workers, too
    ctx.exit(run(url=session.url, keep=keep, output=session.output))
