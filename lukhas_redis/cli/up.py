"""`lukhas up`: the embedded server.

What belongs here: starting, stopping, asking for it. What does not: how that is done (`lukhas_redis.embedded`).
Invariant: touches this user's embedded server only, whatever `--url` says.
"""

from __future__ import annotations

import click

from lukhas_redis.cli.frame import Leaf, Session
from lukhas_redis.cli.output import print_facts, print_json
from lukhas_redis.embedded import EmbeddedServer, ensure, status
from lukhas_redis.embedded import stop as stop_server


@click.command("up", cls=Leaf)
@click.option("--stop", is_flag=True, help="Stop it in order, with everything on disk.")
@click.option("--status", "ask", is_flag=True, help="Say whether it runs; exit code 1 when it does not.")
@click.pass_context
def up(ctx: click.Context, *, stop: bool, ask: bool) -> None:
    """Start or join this user's embedded server, load the redis-cli verbs, and say where it is."""
    session = ctx.ensure_object(Session)
    if stop and ask:
        raise click.UsageError("--stop and --status exclude each other")
    if stop:
        _stopped(session, stop_server())
        return
    server = status() if ask else _started(session)
    if server is None:
        _none(session)
        ctx.exit(1)
    _show(session, server)


def _started(session: Session) -> EmbeddedServer:
    from lukhas_redis.cli.library import load_everywhere

    server = ensure()
    load_everywhere(server.url, session.settings)
    if session.settings.url and session.settings.url != server.url:
        session.say(
            "note: other commands use the URL of your settings, not this server (`lukhas config show --origin`)"
        )
    return server


def _stopped(session: Session, ran: bool) -> None:
    if session.json:
        print_json({"stopped": ran})
    else:
        click.echo("stopped" if ran else "there was none")


def _none(session: Session) -> None:
    if session.json:
        print_json({"running": False})
    else:
        click.echo("not running")


def _show(session: Session, server: EmbeddedServer) -> None:
    paths = {"socket": str(server.socket_path), "log": str(server.log_path)}
    facts = {"url": server.url, "pid": server.pid, "version": server.version, **paths}
    if session.json:
        print_json({"running": True, "started": server.started, **facts})
    else:
        print_facts([("embedded", "started" if server.started else "running"), *facts.items()])
    if server.note:
        session.say(f"note: {server.note}")
    session.say(f"look: redis-cli -s {server.socket_path} GET {session.settings.prefix}:help")
