"""`lukhas append`, `lukhas patch`: change a part of a context by hand.

What belongs here: the two commands and their JSON. What does not: what a change does (`lukhas_redis.codec.changes`).
Invariant: only JSON goes in, and what it does not touch keeps its value and type.
"""

from __future__ import annotations

import json
from typing import Any

import click

from lukhas_redis.cli import shapes
from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import print_json
from lukhas_redis.models import Appended


class Json(click.ParamType[Any]):
    """A JSON text whose top is of one kind."""

    def __init__(self, kind: type, name: str, *, empty: bool = False) -> None:
        self.kind = kind
        self.name = name
        self.empty = empty

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse it; the message does not repeat the text, which may be long or secret."""
        try:
            found = json.loads(value)
        except (ValueError, RecursionError) as error:
            self.fail(f"is no JSON ({error!s:.80})", param, ctx)
        if type(found) is not self.kind or not (found or self.empty):
            self.fail(f"must be a JSON {self.name}{'' if self.empty else ' with something in it'}", param, ctx)
        return found


if_version = click.option("--if-version", type=click.IntRange(min=1), metavar="N", help="Only on this version.")
lease_token = click.option("--lease", type=click.IntRange(min=1), metavar="TOKEN", help="Fencing token of the lease.")
dry = click.option("--dry-run", is_flag=True, help="Say what would happen and change nothing.")


@click.command("append", cls=Leaf)
@click.argument("context_id", metavar="ID")
@click.argument("path")
@click.argument("items", type=Json(list, "array"))
@if_version
@lease_token
@dry
@pass_session
def append(
    session: Session,
    context_id: str,
    path: str,
    items: list[Any],
    if_version: int | None,
    lease: int | None,
    *,
    dry_run: bool,
) -> None:
    """Add ITEMS, a JSON array, to the list at PATH, a JSON pointer such as /messages."""
    with session.store() as store:
        done = store.append(context_id, path, items, if_version=if_version, lease=lease, dry_run=dry_run or None)
    _print(session, done, f"{len(items)} items to {path}", "append", "appended")


@click.command("patch", cls=Leaf)
@click.argument("context_id", metavar="ID")
@click.argument("merge", metavar="PATCH", type=Json(dict, "object"))
@if_version
@lease_token
@dry
@pass_session
def patch(
    session: Session,
    context_id: str,
    merge: dict[str, Any],
    if_version: int | None,
    lease: int | None,
    *,
    dry_run: bool,
) -> None:
    """Merge PATCH, a JSON object (RFC 7396): null deletes a key, objects are merged, all else is replaced whole."""
    with session.store() as store:
        done = store.patch(context_id, merge, if_version=if_version, lease=lease, dry_run=dry_run or None)
    _print(session, done, f"{len(merge)} keys", "patch", "patched")


def _print(session: Session, done: Appended, what: str, verb: str, past: str) -> None:
    if session.json:
        print_json(shapes.appended(done))
    else:
        word = f"would {verb}" if done.dry_run else past
        click.echo(f"{word} {what}: {done.context_id} version {done.version}")
