"""What a worker shows of itself: a line on a terminal while it works, a summary when it ends, its log.

What belongs here: words and numbers. What does not: the work (`worker_life`).
Invariant: without a terminal nothing is written to stdout but the summary, as one line of JSON.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, Literal

import click

from lukhas_redis.cli.output import print_json_line, span
from lukhas_redis.cli.worker_life import Life

_TICK_SECONDS = 1.0


class View:
    """Shows one life."""

    def __init__(self, app: str, life: Life, *, dry_run: bool) -> None:
        self._app = app
        self._life = life
        self._dry = dry_run
        self._began = time.monotonic()
        self._last = (self._began, 0)

    def summary(self) -> dict[str, Any]:
        """How it ended and what it did, by what its bus counted."""
        bus = self._life.bus
        done = asdict(bus.progress) if bus is not None else {}
        seconds = round(time.monotonic() - self._began, 3)
        return {"app": self._app, "ended": self._life.ended, "dry_run": self._dry, "seconds": seconds, **done}

    def print_summary(self, *, as_json: bool) -> None:
        """For a person at a terminal a sentence, for all others JSON."""
        found = self.summary()
        if as_json or not sys.stdout.isatty():
            print_json_line(found)
            return
        names = ("handled", "retried", "dead", "lost", *(("peeked",) if self._dry else ()))
        counts = ", ".join(f"{found.get(name, 0)} {name}" for name in names)
        click.echo(f"{found['ended']} after {span(found['seconds'] * 1000)}: {counts}")

    def line(self) -> str:
        """The state in one line; the rate is that since the last line."""
        bus = self._life.bus
        if bus is None:
            return "starting"
        done, now = bus.progress, time.monotonic()
        count = done.handled + done.peeked
        then, before = self._last
        self._last = (now, count)
        rate = (count - before) / max(now - then, 0.001)
        facts = f"retried {done.retried}  dead {done.dead}  lost {done.lost}  in hand {bus.in_hand}"
        state = self._life.ended or ("quiet" if self._life.quiet else "dry run" if self._dry else "working")
        return f"{state}  {'seen' if self._dry else 'handled'} {count:,}  {rate:,.1f}/s  {facts}"

    async def keep_shown(self, show: Callable[[str], None]) -> None:
        """Show the line every second."""
        while True:
            show(self.line())
            await asyncio.sleep(_TICK_SECONDS)


@contextmanager
def progress_line() -> Generator[Callable[[str], None] | None]:
    """A line at the bottom of the terminal that stderr is; None: it is none, or rich is missing."""
    if not sys.stderr.isatty():
        yield None
        return
    try:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text
    except ModuleNotFoundError:
        yield None
        return
    colours: Literal["auto"] | None = None if os.environ.get("NO_COLOR") else "auto"
    console = Console(stderr=True, highlight=False, color_system=colours)
    # What an app prints to a file must not end up here.
    with Live(console=console, auto_refresh=False, transient=True, redirect_stdout=sys.stdout.isatty()) as live:
        yield lambda line: live.update(Text(line, no_wrap=True, overflow="ellipsis"), refresh=True)


def log_to_stderr() -> None:
    """Show warnings of the bus, unless the app has set up a log of its own."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
