"""`lukhas flags`: a tenant's mode, limits and feature flags, and their audit.

What belongs here: the five commands. What does not: what a flag does (`lua/includes/tenant.lua`).
Invariant: every change carries who made it; the audit has it before it takes effect.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping
from typing import Any

import click

from lukhas_redis.cli.failures import NotSet
from lukhas_redis.cli.frame import Family, Leaf, Session, pass_session
from lukhas_redis.cli.output import clean, moment, print_json, print_table
from lukhas_redis.models import FlagChange

# The flags that everybody has, and the setting that stands in when one is not set.
DEFAULTS = {
    "mode": "initial_mode",
    "max_entries": "max_memory_store_entries",
    "max_bytes": "max_tenant_bytes",
    "policy": "eviction_policy",
    "max_mbps": "max_context_throughput_mbps",
}


@click.group("flags", cls=Family)
def flags() -> None:
    """Mode, limits and feature flags of the tenant; a change holds for every worker's next call."""


@flags.command("ls", cls=Leaf)
@pass_session
def list_flags(session: Session) -> None:
    """List every flag: mode and limits with their defaults, and the feature flags that are set."""
    with session.store() as store:
        rows = _rows(session, store.flags())
    if session.json:
        print_json(rows)
    else:
        print_table(("FLAG", "VALUE", "SET"), [(row["name"], row["value"], _yes(row["set"])) for row in rows])


@flags.command("get", cls=Leaf)
@click.argument("name")
@pass_session
def get_flag(session: Session, name: str) -> None:
    """Print the value of one flag; exit code 3 when it is not set and has no default."""
    with session.store() as store:
        rows = _rows(session, store.flags())
    found = next((row for row in rows if row["name"] in (name, f"flag.{name}")), None)
    if found is None:
        raise NotSet(f"flag {name!r:.80} of tenant {session.settings.tenant} is not set", flag=name)
    if session.json:
        print_json(found)
    else:
        click.echo(clean(found["value"]))


@flags.command("set", cls=Leaf)
@click.argument("name")
@click.argument("value")
@click.option("--reason", default="", metavar="TEXT", help="Why; goes to the audit.")
@click.option("--by", metavar="WHO", help="Who; default: your user and machine.")
@pass_session
def set_flag(session: Session, name: str, value: str, reason: str, by: str | None) -> None:
    """Set mode (live, dry_run, paused), max_entries, max_bytes, policy, max_mbps, or a feature flag."""
    if not value:
        raise click.UsageError("a value is missing; `lukhas flags unset` restores the default")
    _change(session, name, value, reason, by)


@flags.command("unset", cls=Leaf)
@click.argument("name")
@click.option("--reason", default="", metavar="TEXT", help="Why; goes to the audit.")
@click.option("--by", metavar="WHO", help="Who; default: your user and machine.")
@pass_session
def unset_flag(session: Session, name: str, reason: str, by: str | None) -> None:
    """Give a flag its default back, or remove a feature flag."""
    _change(session, name, "", reason, by)


@flags.command("audit", cls=Leaf)
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="At most so many.")
@pass_session
def audit(session: Session, limit: int) -> None:
    """List who changed what, newest first."""
    with session.store() as store:
        entries = store.audit(count=limit)
    if session.json:
        print_json(
            [
                {"at_ms": e.at_ms, "flag": e.flag, "from": e.before, "to": e.after, "by": e.by, "why": e.why}
                for e in entries
            ]
        )
    else:
        rows = [(moment(e.at_ms), e.flag, e.before or "-", e.after or "-", e.by, e.why or "-") for e in entries]
        print_table(("AT", "FLAG", "FROM", "TO", "BY", "WHY"), rows)


def _rows(session: Session, found: Mapping[str, str]) -> list[dict[str, Any]]:
    settings = session.settings
    rows = [
        {"name": name, "value": found.get(name) or str(getattr(settings, default)), "set": name in found}
        for name, default in DEFAULTS.items()
    ]
    return rows + [{"name": n, "value": v, "set": True} for n, v in sorted(found.items()) if n not in DEFAULTS]


def _change(session: Session, name: str, value: str, reason: str, by: str | None) -> None:
    with session.store() as store:
        change = store.set_flag(name, value, by=by or session.settings.client_name or who(), reason=reason)
    _print_change(session, change)


def _print_change(session: Session, change: FlagChange) -> None:
    if session.json:
        print_json({"name": change.name, "from": change.before, "to": change.after})
    else:
        click.echo(f"{change.name}: {clean(change.before) or 'default'} -> {clean(change.after) or 'default'}")


def _yes(value: object) -> str:
    return "yes" if value else "-"


def who() -> str:
    """The person at this terminal, for the audit: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
