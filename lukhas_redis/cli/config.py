"""`lukhas config`: what the settings are, and why.

What belongs here: showing them. What does not: changing them (a file, `LUKHAS_*`), or a tenant's flags (`flags`).
Invariant: needs no server; passwords are masked.
"""

from __future__ import annotations

import click

from lukhas_redis.cli.frame import Family, Leaf, Session, pass_session
from lukhas_redis.cli.output import print_facts, print_json, print_table


@click.group("config", cls=Family)
def config() -> None:
    """The settings of a process started here and now."""


@config.command("show", cls=Leaf)
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@pass_session
def show(session: Session, *, origin: bool) -> None:
    """Show every setting: defaults < file < environment LUKHAS_* < options."""
    found = session.settings.origin()
    if session.json:
        print_json({n: {"value": v, "origin": o} if origin else v for n, (v, o) in found.items()})
    elif origin:
        print_table(("SETTING", "VALUE", "ORIGIN"), [(name, _text(v), o) for name, (v, o) in found.items()])
    else:
        print_facts((name, _text(value)) for name, (value, _) in found.items())


def _text(value: object) -> str:
    return "-" if value is None else str(value)
