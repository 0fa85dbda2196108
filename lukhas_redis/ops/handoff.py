"""handoff: pass a context from one provider to the next.

What belongs here: the arguments of a handoff. What does not: who may hand off what (`lua/handoff.lua`).
Invariant: owner, version, hop record, deadline and event change together; the data is not touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from lukhas_redis.calls import Call, Op, Refused
from lukhas_redis.errors import InvalidArgument
from lukhas_redis.keys import ShardKeys, valid_context_id, valid_name
from lukhas_redis.models import Handoff, Lease
from lukhas_redis.ops.bus.transaction import Outbox, with_events
from lukhas_redis.ops.frame import ANY_ID, OPEN, Frame
from lukhas_redis.ops.preserve import ttl_milliseconds, version_argument
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, settle
from lukhas_redis.ops.writing import (
    Write,
    begin,
    common_args,
    context_keys,
    lease_argument,
    place_of,
    shard_keys,
    write_call,
)
from lukhas_redis.scripts import Arg, load

_SHARD_KEYS = ("index", "usage", "tombs", "events", "flags", "shard")
_OPEN_ARGS = (
    *("request_id", "request", "lease", "sid", "source", "destination"),
    *("if_version", "ttl_ms", "note", "previous_us"),
)
MAX_NOTE_BYTES = 1024


def handoff(
    space: Space,
    context_id: str,
    source_provider: str,
    destination_provider: str,
    *,
    metadata: Mapping[str, Any] | None = None,
    if_version: int | None = None,
    ttl: int | timedelta | None = None,
    lease: Lease | int | None = None,
    durability: str | None = None,
    dry_run: bool | None = None,
    request_id: str | None = None,
    emit: Outbox = (),
) -> Op[Handoff]:
    """Make `destination_provider` the owner of a context and record the hop.

    `source_provider` must be the owner, if the context has one. `metadata`: JSON-able, up to 1024 bytes, kept
    with the hop. `ttl`: whole seconds for a new deadline; None keeps it. `lease`: what `lease` gave, while one is live.
    The other options are those of `preserve`.
    The cost depends neither on the size of the context nor on the number of hops; the last 32 hops are kept, their
    count is exact.

    Raises:
        InvalidArgument, InvalidId: Nothing was sent; do not retry.
        OwnerConflict, VersionConflict, LeaseHeld, LeaseLost, RequestReused: Nothing was changed; read again and decide.
        ContextNotFound and its kin: It is not there.
        TenantPaused, Unavailable: Nothing was changed; retry later.
        OutcomeUnknown, DurabilityUnknown: May be done; repeat with the same request id.
    """
    cid = valid_context_id(context_id)
    source, destination = valid_name(source_provider, "provider"), valid_name(destination_provider, "provider")
    values: dict[str, Arg] = {
        "lease": lease_argument(lease),
        "sid": "",
        "source": source,
        "destination": destination,
        "if_version": version_argument(if_version),
        "ttl_ms": 0 if ttl is None else ttl_milliseconds(space, ttl),
        "note": _note(metadata),
    }
    asked = ("handoff", cid, *list(values.values())[1:])
    write = begin(space, asked, request_id, durability, dry_run)
    values["request_id"], values["request"] = write.request_id, write.digest
    values["previous_us"] = int(space.hop_ms.get(cid, 0) * 1000)

    def call(keys: ShardKeys) -> Call:
        values["req"], values["session"] = keys.request(write.request_id), keys.session(str(values["sid"]))
        filled = _frame(space, keys, write).fill(cid, values)
        return write_call(filled, keys, write)

    reply = yield from with_events(space, _handed_off(space, cid, values, call), emit)
    _, dry, _, version, hop, expires_ms = map(bytes.decode, reply)
    was_dry = write.dry or dry == "1"
    return Handoff(cid, int(version), int(hop), source, destination, int(expires_ms), write.request_id, dry_run=was_dry)


def _handed_off(
    space: Space, cid: str, values: dict[str, Arg], call: Callable[[ShardKeys], Call]
) -> Op[Sequence[bytes]]:
    try:
        reply = yield from settle(space, cid, call)
        while reply[0] == b"SESSION":
            values["sid"] = reply[1].decode()
            reply = yield from settle(space, cid, call)
    except Refused as refused:
        raise explain(refused, f"context {cid} of tenant {space.tenant}", reset=space.resets > 0) from None
    return reply


def _frame(space: Space, keys: ShardKeys, write: Write) -> Frame:
    """What handoffs on one shard have in common."""
    known = "handoff", *place_of(space, keys), write.dry, write.durability
    found = space.frames.get(known)
    if found is not None:
        return found
    args: dict[str, Arg] = {**common_args(space, keys, write), **dict.fromkeys(_OPEN_ARGS, OPEN), "id": ANY_ID}
    names = {**context_keys(keys, ANY_ID), **shard_keys(keys, *_SHARD_KEYS), "req": OPEN, "session": OPEN}
    return space.framed(known, Frame(load("handoff"), names, args))


def _note(metadata: Mapping[str, Any] | None) -> str:
    if metadata is None:
        return ""
    try:
        note = json.dumps(metadata, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"metadata of a handoff must be JSON: {error}") from None
    if len(note) > MAX_NOTE_BYTES:
        raise InvalidArgument(f"metadata of a handoff has {len(note)} bytes as JSON; {MAX_NOTE_BYTES} are allowed")
    return note
