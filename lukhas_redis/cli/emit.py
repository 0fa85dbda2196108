"""`lukhas emit`: an event from a shell or a script.

What belongs here: the command and reading its payload. What does not: what an event is (`lukhas_redis.ops.bus`).
Invariant: the payload is never repeated in a message: it may be long or secret.
"""

from __future__ import annotations

import sys
from typing import Any

import click

from lukhas_redis.bus_models import PRIORITIES, Emitted
from lukhas_redis.cli import bus_shapes
from lukhas_redis.cli.change import Json, dry
from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import moment, print_json

# Far more than any payload may have, so that a wrong pipe ends here.
_MOST_CHARACTERS = 16 << 20


class Payload(Json):
    """A JSON object, or `-` for one on stdin."""

    def __init__(self) -> None:
        super().__init__(dict, "object", empty=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read and parse it."""
        return super().convert(self._stdin(param, ctx) if value == "-" else value, param, ctx)

    def _stdin(self, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            text = sys.stdin.read(_MOST_CHARACTERS + 1)
        except UnicodeDecodeError:
            self.fail("what is on stdin is not text", param, ctx)
        if len(text) > _MOST_CHARACTERS:
            self.fail(f"there are over {_MOST_CHARACTERS} characters on stdin", param, ctx)
        return text


@click.command("emit", cls=Leaf)
@click.argument("event")
@click.option("--payload", type=Payload(), metavar="JSON", help="Its payload, an object; - reads it from stdin.")
@click.option("--priority", type=click.Choice(PRIORITIES), default="normal", show_default=True, help="How urgent.")
@click.option("--key", default="", metavar="KEY", help="Ordering key: events that share it are handled in order.")
@click.option("--idempotency-key", metavar="KEY", help="A second event with the same key is none.")
@click.option("--session", "session_id", metavar="ID", help="Session it belongs to.")
@click.option("--context", "context_id", metavar="ID", help="Context it belongs to.")
@click.option("--delay", type=click.FloatRange(min=0), metavar="SECONDS", help="Not delivered before.")
@dry
@pass_session
def emit(
    session: Session,
    event: str,
    payload: dict[str, Any] | None,
    priority: str,
    key: str,
    idempotency_key: str | None,
    session_id: str | None,
    context_id: str | None,
    delay: float | None,
    *,
    dry_run: bool,
) -> None:
    """Put EVENT, a name such as draft.written, on the bus for every consumer group."""
    with session.bus() as bus:
        done = bus.emit(
            event,
            payload,
            priority=priority,
            ordering_key=key,
            idempotency_key=idempotency_key,
            session_id=session_id,
            context_id=context_id,
            delay=delay,
            dry_run=dry_run or None,
        )
    _print(session, event, done, delayed=bool(delay))


def _print(session: Session, event: str, done: Emitted, *, delayed: bool) -> None:
    if session.json:
        print_json(bus_shapes.emitted(done))
        return
    due = f", due {moment(done.due_ms)}" if delayed else ""
    click.echo(f"{'would emit' if done.dry_run else 'emitted'} {event}: {done.event_id}{due}")
