"""extend, pin, drop: what is done to a context without its data.

What belongs here: operations that change a context's place, not its content. What does not: handoff.
Invariant: each is one script; a repeat with the same request id changes nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from lukhas_redis.calls import Call, Op, Refused
from lukhas_redis.errors import InvalidArgument
from lukhas_redis.keys import ShardKeys, valid_context_id
from lukhas_redis.models import Dropped, Extended, Lease, Pinned
from lukhas_redis.ops.bus.transaction import Outbox, with_events
from lukhas_redis.ops.preserve import ttl_milliseconds, version_argument
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, settle
from lukhas_redis.ops.writing import Write, begin, common_args, context_keys, lease_argument, shard_keys
from lukhas_redis.scripts import Arg, load


def extend(
    space: Space,
    context_id: str,
    ttl: int | timedelta,
    *,
    lease: Lease | int | None = None,
    durability: str | None = None,
    dry_run: bool | None = None,
    request_id: str | None = None,
    emit: Outbox = (),
) -> Op[Extended]:
    """Make a context live at least `ttl` (whole seconds or a timedelta) from now; never shortens its life.

    `emit`: a `NewEvent`, or up to 16, put on the bus in the same step.

    Raises:
        InvalidArgument, InvalidId: Nothing was sent; do not retry.
        LeaseHeld, LeaseLost: Somebody else may write now; nothing was changed.
        ContextNotFound and its kin: It is not there.
        TenantPaused, Unavailable: Nothing was changed; retry later.
        OutcomeUnknown, DurabilityUnknown: May be done; repeat with the same request id.
    """
    cid = valid_context_id(context_id)
    ttl_ms = ttl_milliseconds(space, ttl)
    args: dict[str, Arg] = {"lease": lease_argument(lease), "id": cid, "sid": "", "ttl_ms": ttl_ms}
    write = begin(space, ("extend", cid, ttl_ms), request_id, durability, dry_run)

    def names(keys: ShardKeys) -> dict[str, str]:
        shared = shard_keys(keys, "index", "tombs", "events", "flags", "shard")
        return {**context_keys(keys, cid), **shared, "session": keys.session(str(args["sid"]))}

    def extended() -> Op[Sequence[bytes]]:
        reply = yield from _change(space, "extend", cid, write, names, args)
        while reply[0] == b"SESSION":
            args["sid"] = reply[1].decode()
            reply = yield from _change(space, "extend", cid, write, names, args)
        return reply

    reply = yield from with_events(space, extended(), emit)
    return Extended(cid, int(reply[3]), int(reply[4]), dry_run=write.dry or reply[1] == b"1")


def pin(
    space: Space,
    context_id: str,
    pinned: bool = True,
    *,
    lease: Lease | int | None = None,
    durability: str | None = None,
    dry_run: bool | None = None,
    request_id: str | None = None,
    emit: Outbox = (),
) -> Op[Pinned]:
    """Protect a context from eviction, or with `pinned=False` no longer; its deadline stays.

    `emit`: a `NewEvent`, or up to 16, put on the bus in the same step.

    Raises:
        InvalidArgument, InvalidId: Nothing was sent; do not retry.
        LeaseHeld, LeaseLost: Somebody else may write now; nothing was changed.
        ContextNotFound and its kin: It is not there.
        TenantPaused, Unavailable: Nothing was changed; retry later.
        OutcomeUnknown, DurabilityUnknown: May be done; repeat with the same request id.
    """
    cid = valid_context_id(context_id)
    if not isinstance(pinned, bool):
        raise InvalidArgument(f"pinned must be True or False, not {pinned!r:.40}")
    args: dict[str, Arg] = {"lease": lease_argument(lease), "id": cid, "pinned": int(pinned)}
    write = begin(space, ("pin", cid, pinned), request_id, durability, dry_run)

    def names(keys: ShardKeys) -> dict[str, str]:
        shared = shard_keys(keys, "index", "order", "tombs", "events", "flags", "shard")
        return {"ctx": keys.ctx(cid), **shared}

    reply = yield from with_events(space, _change(space, "pin", cid, write, names, args), emit)
    return Pinned(cid, int(reply[3]), reply[4] == b"1", dry_run=write.dry or reply[1] == b"1")


def drop(
    space: Space,
    context_id: str,
    *,
    if_version: int | None = None,
    lease: Lease | int | None = None,
    durability: str | None = None,
    dry_run: bool | None = None,
    request_id: str | None = None,
    emit: Outbox = (),
) -> Op[Dropped]:
    """Remove a context now and remember that it was dropped; works when memory is full and when paused.

    `emit`: a `NewEvent`, or up to 16, put on the bus in the same step. With events
    it needs memory, and a tenant that is not paused.

    Raises:
        InvalidArgument, InvalidId: Nothing was sent; do not retry.
        VersionConflict: Another version is stored; nothing was changed.
        LeaseHeld, LeaseLost: Somebody else may write now; nothing was changed.
        ContextNotFound and its kin: It is not there.
        Unavailable: Nothing was changed; retry later.
        OutcomeUnknown, DurabilityUnknown: May be done; repeat with the same request id.
    """
    cid = valid_context_id(context_id)
    version = version_argument(if_version)
    args: dict[str, Arg] = {"lease": lease_argument(lease), "id": cid, "if_version": version}
    write = begin(space, ("drop", cid, version), request_id, durability, dry_run)

    def names(keys: ShardKeys) -> dict[str, str]:
        shared = shard_keys(keys, "index", "order", "sizes", "usage", "tombs", "events", "flags", "shard")
        return {**context_keys(keys, cid), **shared}

    reply = yield from with_events(space, _change(space, "drop", cid, write, names, args), emit)
    return Dropped(cid, int(reply[3]), dry_run=write.dry or reply[1] == b"1")


def _change(
    space: Space,
    name: str,
    cid: str,
    write: Write,
    names: Callable[[ShardKeys], dict[str, str]],
    args: dict[str, Arg],
) -> Op[Sequence[bytes]]:
    def call(keys: ShardKeys) -> Call:
        script = load(name)
        known = {**names(keys), "req": keys.request(write.request_id)}
        words = script.pack(known, {**common_args(space, keys, write), **args})
        return Call(script, keys.tag, words, request_id=write.request_id, durability=write.durability)

    try:
        return (yield from settle(space, cid, call))
    except Refused as refused:
        raise explain(refused, f"context {cid} of tenant {space.tenant}", reset=space.resets > 0) from None
