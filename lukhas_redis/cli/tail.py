"""`lukhas tail`: lifecycle events or those of the bus, those kept and those to come.

What belongs here: where to begin, merging shards, following. What does not: what an event means (docs/cli.md), reading
the bus (`bus_reader`).
Invariant: every event kept by the server since the beginning is shown once, in the order of the server's clock; a
server that goes away while following is waited for.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from lukhas_redis.cli import shapes
from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import moment, print_json_line
from lukhas_redis.cli.when import age_ms, server_now_ms
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.models import Event

if TYPE_CHECKING:
    from lukhas_redis.bus_models import BusEvent
    from lukhas_redis.store import ContextStore

_PAGE = 1000
_LAST = 10
_EVENT_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?", re.ASCII)


class Since(click.ParamType[str]):
    """Where to begin: an age such as 10m, an event id, or `all`."""

    name = "since"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form; what it means depends on the server's clock."""
        if value != "all" and age_ms(value) is None and not _EVENT_ID.fullmatch(value):
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
@click.option("--bus", is_flag=True, help="Events of the bus instead; no group is joined, nothing is taken.")
@click.option("--pattern", "patterns", multiple=True, help="With --bus: only names that fit; may be given again.")
@pass_session
def tail(
    session: Session,
    since: str | None,
    limit: int | None,
    patterns: tuple[str, ...],
    *,
    follow: bool,
    interval: float,
    bus: bool,
) -> None:
    """Show lifecycle events, or with --bus those of the bus, as they happen. With -o json: one object a line."""
    if patterns and not bus:
        raise click.UsageError("--pattern is for --bus")
    with session.store() as store:
        begin = since or "all"
        look: Callable[[], list[Any]] = _bus_look(store, begin, patterns) if bus else Reader(store, begin).new
        show: Callable[[Session, Any], None] = _show_bus if bus else _show
        for event in deque(look(), maxlen=limit or (None if since else _LAST)):
            show(session, event)
        if follow:
            _follow(session, look, show, interval)


def _follow(
    session: Session, look: Callable[[], list[Any]], show: Callable[[Session, Any], None], interval: float
) -> None:
    troubled = False
    while True:
        time.sleep(interval)
        try:
            found = look()
        except LukhasRedisError as error:
            if not error.retryable:
                raise
            if not troubled:
                session.say(f"lukhas: {error.message}; still trying")
            troubled = True
            continue
        troubled = False
        for event in found:
            show(session, event)


def _bus_look(store: ContextStore, since: str, patterns: tuple[str, ...]) -> Callable[[], list[Any]]:
    from lukhas_redis.cli.bus_reader import BusReader, fitting, id_before

    age = age_ms(since)
    after = "0-0" if since == "all" else since
    return BusReader(store, after if age is None else id_before(server_now_ms(store) - age), fitting(patterns)).new


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
    age = age_ms(since)
    if age is not None:
        return str(max(0, now_ms - age))
    return "0" if since == "all" else since


def _show(session: Session, event: Event) -> None:
    if session.json:
        print_json_line(shapes.event(event))
    else:
        click.echo(f"{moment(event.at_ms)}  {event.event:<20}  {event.context_id}  v{event.version}")


def _show_bus(session: Session, event: BusEvent) -> None:
    from lukhas_redis.cli import bus_shapes

    if session.json:
        print_json_line(bus_shapes.event(event))
    else:
        click.echo(f"{moment(bus_shapes.stream_ms(event))}  {event.priority:<8}  {event.event:<24}  {event.event_id}")
