"""`lukhas functions`: the operators' verbs on the server, so that plain redis-cli can call them by name.

What belongs here: the three commands. What does not: loading (`library`), what the verbs do (`lua/`).
Invariant: loading twice is the same as loading once; no context is touched.
"""

from __future__ import annotations

from typing import Any

import click

from lukhas_redis.cli.frame import Family, Leaf, Session, pass_session
from lukhas_redis.cli.help_text import arguments, is_found, key_of
from lukhas_redis.cli.output import print_json, print_table
from lukhas_redis.functions import library, library_version, verbs
from lukhas_redis.scripts import Script


@click.group("functions", cls=Family)
def functions() -> None:
    """The verbs for plain redis-cli: FCALL lukhas_extend 1 '<key>' ttl_ms 7200000."""


@functions.command("load", cls=Leaf)
@pass_session
def load(session: Session) -> None:
    """Load the library on every primary, and the text of `redis-cli GET lukhas:help`."""
    from lukhas_redis.cli.library import load_everywhere

    loaded = load_everywhere(session.target, session.settings)
    if session.json:
        print_json([{"server": one.server, "version": one.version} for one in loaded])
    else:
        print_table(("SERVER", "VERSION"), [(one.server, one.version or "-") for one in loaded])
    session.say(f"try: redis-cli GET {session.settings.prefix}:help")


@functions.command("verify", cls=Leaf)
@click.pass_context
def verify(ctx: click.Context) -> None:
    """Compare what every primary has with this release; exit code 1 when one has another library or none."""
    from lukhas_redis.cli.library import versions

    session = ctx.ensure_object(Session)
    found = versions(session.target, session.settings)
    wanted = library_version()
    if session.json:
        print_json([{"server": o.server, "version": o.version, "wanted": wanted, "ok": o.ours} for o in found])
    else:
        rows = [(one.server, one.version or "none", wanted, "ok" if one.ours else "fail") for one in found]
        print_table(("SERVER", "VERSION", "WANTED", "RESULT"), rows)
    if not all(one.ours for one in found):
        session.say("`lukhas functions load` brings every server up to this release")
        ctx.exit(1)


@functions.command("show", cls=Leaf)
@click.option("--source", is_flag=True, help="Print the library itself, for `redis-cli -x FUNCTION LOAD REPLACE`.")
@pass_session
def show(session: Session, *, source: bool) -> None:
    """List the verbs; needs no server."""
    if source:
        click.echo(library(), nl=False)
    elif session.json:
        print_json([_verb(script) for script in verbs()])
    else:
        rows = [(f"lukhas_{s.name}", key_of(s), arguments(s) or "-", s.summary) for s in verbs()]
        print_table(("VERB", "KEY", "ARGUMENTS", "WHAT IT DOES"), rows)


def _verb(script: Script) -> dict[str, Any]:
    takes = [
        {"name": row.name, "kind": row.kind, "default": row.default, "text": row.text}
        for row in script.args
        if not is_found(row)
    ]
    about = {"name": f"lukhas_{script.name}", "key": key_of(script), "summary": script.summary}
    return {**about, "reads_only": script.reads_only, "arguments": takes}
