"""`lukhas tail`: lifecycle events, those kept and those to come.

What belongs here: where to begin, merging shards, following. What does not: what an event means (docs/cli.md).
Invariant: every event kept by the server since the beginning is shown once, in the order of the server's clock; a
server that goes away while following is waited for.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from lukhas_redis.cli import shapes
from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import moment, print_json_line
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.models import Event

if TYPE_CHECKING:
    from lukhas_redis.store import ContextStore

_PAGE = 1000
_LAST = 10
_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AGE = re.compile(r"([0-9]{1,9})([smhd])")
_EVENT_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?", re.ASCII)


class Since(click.ParamType[str]):
    """Where to begin: an age such as 10m, an event id, or `all`."""

    name = "since"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form; what it means depends on the server's clock."""
        if value != "all" and not _AGE.fullmatch(value) and not _EVENT_ID.fullmatch(value):
            self.fail(f"{value!r:.40} is neither an age such as 30s, 10m, 2h, 1d, nor an event id, nor all", param, ctx)
        return value


@click.command("tail", cls=Leaf)
@click.option(
    "--since", type=Since(), metavar="WHEN", help="Begin there: 30s, 10m, 2h, 1d ago, after an event id, all."
)
@click.option(
    "--limit", type=click.IntRange(min=1), help="At most the last so many of those kept (without --since: 10)."
)
@click.option("--follow/--no-follow", default=True, help="Go on with what happens next, until Ctrl-C (default).")
@click.option(
    "--interval", type=click.FloatRange(0.05, 60), default=0.5, show_default=True, help="Seconds to the next look."
)
@pass_session
def tail(session: Session, since: str | None, limit: int | None, *, follow: bool, interval: float) -> None:
    """Show lifecycle events as they happen. With -o json: one object a line."""
    with session.store() as store:
        reader = Reader(store, since or "all")
        kept = deque(reader.new(), maxlen=limit or (None if since else _LAST))
        _print(session, kept)
        troubled = False
        while follow:
            time.sleep(interval)
            try:
                _print(session, reader.new())
                troubled = False
            except LukhasRedisError as error:
                if not error.retryable:
                    raise
                if not troubled:
                    session.say(f"lukhas: {error.message}; still trying")
                troubled = True


class Reader:
    """Reads each shard from where it read last."""

    def __init__(self, store: ContextStore, since: str) -> None:
        shards = store.stats().shards
        now_ms = max(shard.now_ms for shard in shards)
        self._store = store
        self._after = [_start(since, now_ms)] * len(shards)
        self._read: list[Event] = []

    def new(self) -> list[Event]:
        """What was recorded since the last look, in the order of time; after an error the next call has all of it."""
        for shard in range(len(self._after)):
            self._look_at(shard)
        found, self._read = self._read, []
        return sorted(found, key=lambda event: event.at_ms)

    def _look_at(self, shard: int) -> None:
        page = None
        while page is None or len(page) == _PAGE:
            page = self._store.events(after=self._after[shard], count=_PAGE, shard=shard)
            self._read += page
            self._after[shard] = page[-1].event_id if page else self._after[shard]


def _start(since: str, now_ms: int) -> str:
    age = _AGE.fullmatch(since)
    if age:
        return str(max(0, now_ms - int(age[1]) * _UNITS_MS[age[2]]))
    return "0" if since == "all" else since


def _print(session: Session, found: Iterable[Event]) -> None:
    for event in found:
        if session.json:
            print_json_line(shapes.event(event))
        else:
            click.echo(f"{moment(event.at_ms)}  {event.event:<20}  {event.context_id}  v{event.version}")
