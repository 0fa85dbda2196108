"""`lukhas dlq`: dead letters, which are events that a group gave up.

What belongs here: the four commands. What does not: how an event becomes one (`lua/includes`), the bus itself (`bus`).
Invariant: nothing is thrown away but what was named, or counted and confirmed; what is done to `--all` is done to
those that were there when it began.
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from lukhas_redis.bus import ContextBus
from lukhas_redis.bus_models import DeadLetter
from lukhas_redis.cli import bus_shapes
from lukhas_redis.cli.change import dry
from lukhas_redis.cli.failures import NoSuchLetter
from lukhas_redis.cli.frame import Family, Leaf, Session, pass_session
from lukhas_redis.cli.output import clean, moment, print_facts, print_json, print_table
from lukhas_redis.cli.shapes import data

_MOST = 10_000
_SHOWN = 60

letters_argument = click.argument("letters", nargs=-1, metavar="LETTER...")
group_option = click.option("--group", metavar="NAME", help="Only those of this consumer group.")


@click.group("dlq", cls=Family)
def dlq() -> None:
    """Dead letters: events that a consumer group gave up, each with the reason."""


@dlq.command("ls", cls=Leaf)
@group_option
@click.option("--limit", type=click.IntRange(1, _MOST), default=100, show_default=True, help="At most so many.")
@pass_session
def ls(session: Session, group: str | None, limit: int) -> None:
    """List dead letters, the newest first."""
    with session.bus() as bus:
        found = bus.dead_letters(group=group, count=limit)
    if session.json:
        print_json([bus_shapes.letter(one) for one in found])
    else:
        rows = [
            (o.letter_id, moment(o.died_ms), o.group, o.name or "-", o.reason, o.deliveries, _short(o.error) or "-")
            for o in found
        ]
        print_table(("ID", "DIED", "GROUP", "EVENT", "REASON", "DELIVERIES", "ERROR"), rows)
    if len(found) == limit:
        session.say(f"only the newest {limit}; --limit lists more")
    elif not found:
        session.say(f"no dead letter of {_whose(session, group)}")


@dlq.command("show", cls=Leaf)
@click.argument("letter")
@pass_session
def show(session: Session, letter: str) -> None:
    """Show one dead letter: where it died and why, and the event with its payload."""
    with session.bus() as bus:
        found = _found(session, bus, letter)
    if session.json:
        print_json(bus_shapes.letter(found))
        return
    print_facts(_facts(found))
    if found.event is not None:
        click.echo("\npayload")
        print_json(data(found.event.payload))


@dlq.command("retry", cls=Leaf)
@letters_argument
@click.option("--all", "every", is_flag=True, help="Every dead letter, or every one of --group.")
@group_option
@dry
@pass_session
def retry(session: Session, letters: tuple[str, ...], group: str | None, *, every: bool, dry_run: bool) -> None:
    """Give dead letters back to the groups they died in, their deliveries counted anew."""
    _check(letters, group, every=every)
    with session.bus() as bus:
        chosen = _every(session, bus, group) if every else list(dict.fromkeys(letters))
        done = bus.redrive(chosen, dry_run=dry_run or None)
    left = _left([one if isinstance(one, str) else one.letter_id for one in chosen], done.letter_ids)
    if session.json:
        print_json({"retried": list(done.letter_ids), "left": left, "dry_run": done.dry_run})
    else:
        stay = f", {len(left)} stay" if left else ""
        click.echo(f"{'would give' if done.dry_run else 'gave'} {len(done.letter_ids)} dead letters back{stay}")
    if left and not every:
        raise NoSuchLetter(f"not there, or of a group that was retired: {', '.join(left)[:200]}", left=left)


@dlq.command("drop", cls=Leaf)
@letters_argument
@click.option("--all", "every", is_flag=True, help="Every dead letter, or every one of --group.")
@group_option
@dry
@click.option("--yes", "-y", is_flag=True, help="Do not ask before dropping all.")
@pass_session
def drop(
    session: Session, letters: tuple[str, ...], group: str | None, *, every: bool, dry_run: bool, yes: bool
) -> None:
    """Throw dead letters away for good: those named, or all after asking."""
    _check(letters, group, every=every)
    with session.bus() as bus:
        chosen = _every(session, bus, group) if every else list(dict.fromkeys(letters))
        if every and chosen and not dry_run:
            session.confirm(f"Drop {len(chosen)} dead letters of {_whose(session, group)}?", yes=yes)
        done = bus.discard(chosen, dry_run=dry_run or None)
    if session.json:
        print_json({"dropped": done.letters, "dry_run": done.dry_run})
    else:
        click.echo(f"{'would drop' if done.dry_run else 'dropped'} {done.letters} dead letters")
    if done.letters < len(chosen) and not every:
        raise NoSuchLetter(f"{len(chosen) - done.letters} of the {len(chosen)} dead letters named are not there")


def _check(letters: Sequence[str], group: str | None, *, every: bool) -> None:
    if bool(letters) == every:
        raise click.UsageError("which dead letters: name them, or give --all")
    if group is not None and not every:
        raise click.UsageError("--group goes with --all")


def _every(session: Session, bus: ContextBus, group: str | None) -> list[DeadLetter | str]:
    found = bus.dead_letters(group=group, count=_MOST)
    if len(found) == _MOST:
        session.say(f"the newest {_MOST} of them; for the others do it again")
    return list(found)


def _left(ids: Sequence[str], done: Sequence[str]) -> list[str]:
    """What is in the first list more often than in the second: two shards may use the same id."""
    rest = list(done)
    left = []
    for one in ids:
        if one in rest:
            rest.remove(one)
        else:
            left.append(one)
    return left


def _found(session: Session, bus: ContextBus, letter_id: str) -> DeadLetter:
    letters = bus.dead_letters(letter_id=letter_id)
    if not letters:
        raise NoSuchLetter(f"there is no {letter_id} among the dead letters of {_whose(session, None)}")
    if len(letters) > 1:
        session.say(f"{len(letters)} shards have a letter with this id; this is the last one that died")
    return letters[0]


def _facts(found: DeadLetter) -> list[tuple[str, object]]:
    event = found.event
    about = [
        ("emitted", moment(event.emitted_ms)),
        ("source", event.source or "-"),
        ("ordering key", event.ordering_key or "-"),
        ("correlation", event.correlation_id or "-"),
        ("caused by", event.causation_id or "-"),
    ] if event else [("payload", "cannot be read")]  # fmt: skip
    return [
        ("letter", found.letter_id),
        ("died", moment(found.died_ms)),
        ("group", found.group),
        ("reason", found.reason),
        ("handler", found.handler or "-"),
        ("error", found.error or "-"),
        ("deliveries", found.deliveries),
        ("worker", found.consumer or "-"),
        ("event", found.name or "-"),
        ("event id", found.event_id or "-"),
        ("priority", found.priority or "-"),
        *about,
    ]


def _whose(session: Session, group: str | None) -> str:
    return (f"group {group} of " if group else "") + f"tenant {session.settings.tenant}"


def _short(text: str) -> str:
    return clean(text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "...")
