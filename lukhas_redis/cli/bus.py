"""`lukhas bus`: what the bus holds, its groups, its history, and giving events once more.

What belongs here: the seven commands. What does not: dead letters (`dlq`), emitting (`emit`), following (`tail`).
Invariant: `status`, `groups`, `pending` and `history` only read; what a group has not finished is given up by
`retire --force` alone.
"""

from __future__ import annotations

import click

from lukhas_redis.bus import ContextBus
from lukhas_redis.bus_models import PRIORITIES, BusEvent, BusStatus, GroupStatus
from lukhas_redis.cli import bus_shapes
from lukhas_redis.cli.bus_reader import BusReader, fitting, id_before
from lukhas_redis.cli.change import dry
from lukhas_redis.cli.frame import Family, Leaf, Session, pass_session
from lukhas_redis.cli.output import moment, print_facts, print_json, print_table, span
from lukhas_redis.cli.when import When, moment_at, moment_ms, server_now_ms
from lukhas_redis.errors import GroupNotFound
from lukhas_redis.ops.bus.history import LOOKED_AT

_MOST = 10_000

since_option = click.option("--since", type=When(), metavar="WHEN", help="From then on: 10m ago, or a date with zone.")
until_option = click.option("--until", type=When(), metavar="WHEN", help="Until then, in the same forms.")


@click.group("bus", cls=Family)
def bus() -> None:
    """What the bus holds, how far its groups are, what was emitted."""


@bus.command("status", cls=Leaf)
@pass_session
def status(session: Session) -> None:
    """Show what the bus holds by priority, and per group: lag, pending, workers, counts."""
    with session.bus() as bus:
        found = bus.status()
    if session.json:
        print_json(bus_shapes.status(found))
        return
    print_facts(_facts(found))
    click.echo()
    print_table(("PRIORITY", "KEPT", "EMITTED"), [(p, found.lengths[p], found.emitted[p]) for p in PRIORITIES])
    if found.groups:
        click.echo()
        head = ("GROUP", "LAG", "PENDING", "OLDEST", "ASKED", "WORKERS", "DONE", "RETRIED", "DEAD", "LOST")
        print_table(head, [_group_row(one) for one in found.groups])


def _facts(found: BusStatus) -> list[tuple[str, object]]:
    dropped = f", {found.dead_dropped} dropped" if found.dead_dropped else ""
    return [
        ("tenant", found.tenant),
        ("delayed", found.delayed),
        ("dead letters", f"{found.dead}{dropped}"),
        ("lost", found.lost),
    ]


def _group_row(one: GroupStatus) -> tuple[object, ...]:
    workers = sum(1 for name in one.workers if not name.startswith("@"))
    asked = "-" if one.idle_ms is None else f"{span(one.idle_ms)} ago"
    oldest = span(one.oldest_ms) if one.pending or one.lag else "-"
    ends = [one.counts[name] for name in ("done", "retried", "dead", "lost")]
    return (one.name, "?" if one.lag is None else one.lag, one.pending, oldest, asked, workers, *ends)


@bus.command("groups", cls=Leaf)
@pass_session
def groups(session: Session) -> None:
    """List the names of the consumer groups."""
    with session.bus() as bus:
        names = bus.groups()
    if session.json:
        print_json(names)
    else:
        print_table(("GROUP",), [(name,) for name in names])
    if not names:
        session.say(f"no consumer group of tenant {session.settings.tenant}")


@bus.command("pending", cls=Leaf)
@click.argument("group")
@click.option(
    "--limit", type=click.IntRange(1, _MOST), default=100, show_default=True, help="At most so many a priority."
)
@pass_session
def pending(session: Session, group: str, limit: int) -> None:
    """List what GROUP was given and has not finished, oldest first; @waiting is who has what nobody has."""
    with session.bus() as bus:
        found = bus.pending(group, count=limit)
    if session.json:
        print_json([bus_shapes.pending(*row) for row in found])
    else:
        print_table(
            ("ID", "EVENT", "PRIORITY", "WORKER", "IDLE", "DELIVERIES"),
            [
                (
                    event.event_id if event else f"gone ({stream_id})", event.event if event else "-",
                    event.priority if event else "-", worker, span(idle_ms), deliveries,
                )
                for event, stream_id, worker, idle_ms, deliveries in found
            ],
        )  # fmt: skip
    if not found:
        session.say(f"group {group} has nothing in hand")


@bus.command("history", cls=Leaf)
@click.argument("pattern", default="*")
@since_option
@until_option
@click.option("--id", "event_id", metavar="ID", help="Only this event, as often as it was given.")
@click.option("--correlation", metavar="ID", help="Only what belongs to this correlation id.")
@click.option("--priority", type=click.Choice(PRIORITIES), help="Only this priority.")
@click.option("--limit", type=click.IntRange(1, _MOST), help="At most the newest so many (default: max_history).")
@pass_session
def history(
    session: Session,
    pattern: str,
    since: str | None,
    until: str | None,
    event_id: str | None,
    correlation: str | None,
    priority: str | None,
    limit: int | None,
) -> None:
    """List events that are still kept, finished or not, oldest first. PATTERN: of names; * stands for anything."""
    with session.bus() as bus:
        found = bus.history(
            pattern,
            count=limit,
            since=moment_at(since, bus.store),
            until=moment_at(until, bus.store),
            event_id=event_id,
            correlation_id=correlation,
            priority=priority,
        )
    if session.json:
        print_json([bus_shapes.event(one) for one in found])
    else:
        _table(found)
    wanted = limit or session.settings.max_history
    if found.partial:
        session.say(f"only the last {LOOKED_AT:,} events of a priority were looked at; --until shows older ones")
    if len(found) == wanted:
        session.say(f"only the newest {wanted}; --limit lists more")
    elif not found and not found.partial:
        session.say(f"no event of tenant {session.settings.tenant} matches")


def _table(found: list[BusEvent]) -> None:
    rows = [(moment(bus_shapes.stream_ms(e)), e.event_id, e.event, e.priority, e.ordering_key or "-") for e in found]
    print_table(("AT", "ID", "EVENT", "PRIORITY", "KEY"), rows)


@bus.command("replay", cls=Leaf)
@click.argument("pattern", required=False)
@click.option("--group", required=True, metavar="NAME", help="The one group that gets them.")
@click.option("--id", "event_id", metavar="ID", help="Only this event.")
@since_option
@until_option
@dry
@pass_session
def replay(
    session: Session,
    pattern: str | None,
    group: str,
    event_id: str | None,
    since: str | None,
    until: str | None,
    *,
    dry_run: bool,
) -> None:
    """Give events that are still kept to one group once more. PATTERN: of names; * stands for all."""
    if pattern is event_id is since is until is None:
        raise click.UsageError("which events: give PATTERN ('*' for all), --id, --since or --until")
    with session.bus() as bus:
        chosen = _chosen(bus, pattern, event_id, since, until)
        done = bus.replay(chosen, group=group, dry_run=dry_run or None)
    if session.json:
        facts = {"group": group, "matching": len(chosen), "given": done.events, "dry_run": done.dry_run}
        print_json(facts)
    else:
        word = "would give" if done.dry_run else "gave"
        click.echo(f"{word} {done.events} of {len(chosen)} events to {group} once more")


def _chosen(
    bus: ContextBus, pattern: str | None, event_id: str | None, since: str | None, until: str | None
) -> list[BusEvent]:
    """The events that fit, oldest first; each once, however often it was given before."""
    now_ms = server_now_ms(bus.store)
    last_ms = now_ms if until is None else moment_ms(until, now_ms)
    named = fitting((pattern,) if pattern is not None else ())

    def fits(event: BusEvent) -> bool:
        return event_id in (None, event.event_id) and bus_shapes.stream_ms(event) <= last_ms and named(event)

    after = "0-0" if since is None else id_before(moment_ms(since, now_ms))
    return _each_once(BusReader(bus.store, after, fits).new())


def _each_once(events: list[BusEvent]) -> list[BusEvent]:
    by_id: dict[str, BusEvent] = {}
    for event in events:
        by_id.setdefault(event.event_id, event)
    return list(by_id.values())


@bus.command("retire", cls=Leaf)
@click.argument("group")
@click.option("--force", is_flag=True, help="Also when it has not finished everything: that is given up.")
@dry
@pass_session
def retire(session: Session, group: str, *, force: bool, dry_run: bool) -> None:
    """End a consumer group that nobody works for, so that it keeps no events any more."""
    with session.bus() as bus:
        done = bus.retire(group, force=force, dry_run=dry_run or None)
    if not done.existed:
        raise GroupNotFound(f"there is no consumer group {group} of tenant {bus.store.tenant}")
    if session.json:
        print_json(bus_shapes.retired(done))
    else:
        lost = f", {done.unfinished} events given up" if done.unfinished else ""
        click.echo(f"{'would retire' if done.dry_run else 'retired'} {done.group}{lost}")


@bus.command("trim", cls=Leaf)
@dry
@pass_session
def trim(session: Session, *, dry_run: bool) -> None:
    """Forget finished events that are older than bus_history_seconds, and workers that ended; workers do it, too."""
    with session.bus() as bus:
        done = bus.trim(dry_run=dry_run or None)
    if session.json:
        print_json(bus_shapes.trimmed(done))
    else:
        word = "would forget" if done.dry_run else "forgot"
        click.echo(f"{word} {done.events} events and {done.workers} workers")
