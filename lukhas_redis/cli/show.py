"""`lukhas show`: one context.

What belongs here: metadata, hops, lifecycle, the data, the stored bytes. What does not: lists of contexts (`ls`).
Invariant: changes nothing: neither the time of last access, nor is anything folded; only `--raw` writes bytes that are
no text.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from lukhas_redis.calls import Op, Read
from lukhas_redis.cli import shapes
from lukhas_redis.cli.frame import Leaf, Session, pass_session
from lukhas_redis.cli.output import moment, print_facts, print_json, print_table, size, span
from lukhas_redis.errors import ContextLost
from lukhas_redis.models import Hop, Metadata

if TYPE_CHECKING:
    from lukhas_redis.ops.space import Space
    from lukhas_redis.store import ContextStore


@click.command("show", cls=Leaf)
@click.argument("context_id", metavar="ID")
@click.option("--data", "with_data", is_flag=True, help="Show the data as well, decoded and verified.")
@click.option("--raw", is_flag=True, help="Write the stored bytes to stdout, and nothing else.")
@pass_session
def show(session: Session, context_id: str, *, with_data: bool, raw: bool) -> None:
    """Show one context: metadata, handoffs and lifecycle."""
    if raw and with_data:
        raise click.UsageError("--raw and --data exclude each other")
    with session.store() as store:
        if raw:
            _write_raw(session, store, context_id)
            return
        known = store.metadata(context_id)
        hops = store.hops(context_id)
        lifecycle = store.lifecycle(context_id).to_dict()
        data = shapes.data(store.run(_data_of(_space(store), known.context_id), "show")) if with_data else None
    if session.json:
        document = {"metadata": shapes.context(known), "hops": [shapes.hop(one) for one in hops]}
        print_json({**document, "lifecycle": lifecycle, **({"data": data} if with_data else {})})
        return
    _print(known, hops, lifecycle)
    if with_data:
        click.echo("\ndata")
        print_json(data)


def _data_of(space: Space, context_id: str) -> Op[Mapping[Any, Any]]:
    """The data, verified; `restore` would fold what is due for it."""
    from lukhas_redis.ops.restore import found_in

    found = yield from found_in(space, context_id)
    return found.held.copy(space.limits)


def _write_raw(session: Session, store: ContextStore, context_id: str) -> None:
    known = store.metadata(context_id)
    sys.stdout.buffer.write(store.run(_stored(_space(store), known.context_id), "show"))
    if known.segments:
        session.say(f"the body alone; {known.segments} parts that were appended since are not in it")


def _space(store: ContextStore) -> Space:
    from lukhas_redis.ops.space import Space
    from lukhas_redis.shell import mint

    return Space(store.settings, mint, store.tenant)


def _stored(space: Space, context_id: str) -> Op[bytes]:
    from lukhas_redis.ops.space import discover

    yield from discover(space)
    keys = space.shard_for(context_id)
    body: bytes | None = yield Read(keys.tag, ("GET", keys.body(context_id)))
    if body is None:
        raise ContextLost(f"context {context_id} of tenant {space.tenant} has metadata and no body", reason="lost")
    return body


def _print(known: Metadata, hops: list[Hop], lifecycle: dict[str, Any]) -> None:
    print_facts(_facts(known, lifecycle))
    if hops:
        click.echo("\nhandoffs")
        rows = [(one.number, moment(one.at_ms), one.source, one.destination, one.version, _note(one)) for one in hops]
        print_table(("HOP", "AT", "FROM", "TO", "VERSION", "METADATA"), rows)
    click.echo("\nlifecycle")
    steps = [
        (moment(int(step["timestamp"] * 1000)), step["from_state"], step["to_state"]) for step in _steps(lifecycle)
    ]
    print_table(("AT", "FROM", "TO"), steps)


def _steps(lifecycle: dict[str, Any]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = lifecycle.get("state_transitions") or []
    return steps


def _note(one: Hop) -> str:
    return "-" if one.metadata is None else str(one.metadata)


def _lease(known: Metadata) -> str:
    held = known.lease
    if held is None:
        return "no"
    left = span(held.until_ms - known.now_ms)
    return f"by {held.owner} until {moment(held.until_ms)} ({left} more), token {held.token}"


def _facts(known: Metadata, lifecycle: dict[str, Any]) -> list[tuple[str, object]]:
    broken = [name for name, holds in lifecycle.get("invariants", {}).items() if not holds]
    return [
        ("id", known.context_id),
        ("session", known.session_id),
        ("type", known.context_type),
        ("owner", known.owner or "-"),
        ("version", known.version),
        ("state", lifecycle["lifecycle_state"]),
        ("created", moment(known.created_ms)),
        ("updated", moment(known.updated_ms)),
        ("accessed", moment(known.accessed_ms) if known.accessed_ms else "-"),
        ("expires", f"{moment(known.expires_ms)} (in {span(known.expires_ms - known.now_ms)})"),
        ("pinned", "yes" if known.pinned else "no"),
        ("handoffs", known.hop_count),
        ("size", f"{size(known.raw_bytes)}, stored as {size(known.stored_bytes)} ({known.compression})"),
        ("appended", f"{known.segments} parts, {size(known.appended_bytes)}" if known.segments else "-"),
        ("leased", _lease(known)),
        ("checksum", known.checksum + (" (of the body alone)" if known.segments else "")),
        ("invariants", f"BROKEN: {', '.join(broken)}" if broken else "hold"),
    ]
