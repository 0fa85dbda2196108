"""`lukhas worker`: a process that runs the handlers of an app.

What belongs here: the command, and starting it again. What does not: finding the app (`worker_app`), its life and its
signals (`worker_life`), what is shown (`worker_view`).
Invariant: the app decides about server, tenant and handlers; the shared options are only what it finds in `LUKHAS_*`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click

from lukhas_redis.cli.frame import Leaf, Session
from lukhas_redis.cli.worker_app import load, make
from lukhas_redis.cli.worker_life import AT_ONCE, Life
from lukhas_redis.cli.worker_view import View, log_to_stderr, progress_line
from lukhas_redis.errors import LukhasRedisError

_EXIT_CODES = {"stop": 0, "now": AT_ONCE}


@click.command("worker", cls=Leaf)
@click.argument("app", metavar="MODULE:APP")
@click.option("--dry-run", is_flag=True, help="Call the handlers, take nothing and commit nothing.")
@click.option(
    "--grace",
    type=click.FloatRange(0, 86_400),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long handlers may go on after SIGTERM.",
)
@click.pass_context
def worker(ctx: click.Context, app: str, *, dry_run: bool, grace: float) -> None:
    """Run the handlers of APP, a bus with subscriptions or a function that returns one, until it is stopped.

    SIGTERM, Ctrl-C: finish what is in hand and end; once more: give it back at once. SIGHUP: the same, then start
    again with the code as it is then. SIGUSR1: take nothing more.
    """
    session, here = ctx.ensure_object(Session), Path.cwd()
    _hand_down(session)
    found = load(app)
    life = Life(lambda: make(app, found), session.say, dry_run=dry_run, grace=grace)
    view = View(app, life, dry_run=dry_run)

    def end() -> int:
        if life.bus is not None:
            view.print_summary(as_json=session.json)
        if life.ended == "reload":
            _start_again(here)
        return _EXIT_CODES.get(life.ended, 1)

    try:
        asyncio.run(_live(life, view, end))
    except LukhasRedisError:
        end()
        raise
    ctx.exit(end())


def _hand_down(session: Session) -> None:
    """Options become what an app finds that asks for no server of its own."""
    for name in ("url", "tenant", "config"):
        value = getattr(session, name)
        if value is not None:
            os.environ[f"LUKHAS_{name.upper()}"] = value


async def _live(life: Life, view: View, end: Callable[[], int]) -> None:
    with progress_line() as show:
        log_to_stderr()
        showing = asyncio.create_task(view.keep_shown(show)) if show else None
        try:
            await life.run()
        finally:
            if showing is not None:
                showing.cancel()
                await asyncio.gather(showing, return_exceptions=True)
    if await life.stuck():
        code = end()
        _flush()
        os._exit(code)


def _start_again(here: Path) -> NoReturn:
    """The same command line in the same process id, and all code read anew."""
    _flush()
    os.chdir(here)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell is wanted


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
