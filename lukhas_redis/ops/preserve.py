"""preserve: store a context whole.

What belongs here: checking the caller's arguments, encoding, and the steps of the script's protocol (sweep, evict,
repeat). What does not: any rule of the store, they are in `lua/preserve.lua`.
Invariant: nothing is sent before every argument was checked and the data was encoded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

from lukhas_redis.calls import Call, Op, Refused, Stage, together
from lukhas_redis.codec import Encoded, choose, header_of, serialize_timed
from lukhas_redis.errors import InvalidArgument, LukhasRedisError, SerializationError, StoreFull
from lukhas_redis.keys import ShardKeys, mint_context_id, valid_context_id, valid_name, valid_session
from lukhas_redis.models import Lease, Metadata, Preserved
from lukhas_redis.ops.bus.transaction import Outbox, with_events
from lukhas_redis.ops.folding import sealed
from lukhas_redis.ops.frame import ANY_ID, OPEN, Frame
from lukhas_redis.ops.near import KNOWN_LISTS, Held, Parts
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, settle
from lukhas_redis.ops.sweep import sweep_around
from lukhas_redis.ops.writing import (
    ACCOUNT_KEYS,
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

_MOST_STEPS = 200
_INLINE, _BESIDE, _ABSENT = 0, 1, 2
_HIGHEST = 9
_OPEN_ARGS = (
    *("request_id", "request", "lease", "sid", "ttl_ms", "if_version"),
    *("raw_bytes", "bytes", "level", "checksum", "digest", "nonce", "staged"),
)


class _Packing(NamedTuple):
    """Data as it was at the time of the call. `top`: its first keys and values, None where it was no plain dict."""

    raw: bytes
    top: dict[Any, Any] | None
    encoded: Encoded


class _Wanted(NamedTuple):
    """One preserve with its arguments checked and its data encoded."""

    context_id: str
    session_id: str
    context_type: str
    ttl_ms: int
    if_version: int
    nonce: str
    encoded: Encoded
    write: Write
    lease: str = ""
    event: str = "preserve"


def preserve(
    space: Space,
    session_id: str,
    data: Mapping[str, Any],
    *,
    context_type: str = "conversation",
    ttl: int | timedelta | None = None,
    compression: str | int | None = None,
    context_id: str | None = None,
    if_version: int | None = None,
    lease: Lease | int | None = None,
    durability: str | None = None,
    dry_run: bool | None = None,
    request_id: str | None = None,
    emit: Outbox = (),
) -> Op[Preserved]:
    """Store `data` (a dict, up to 10,485,760 bytes serialized, depth up to 50) and return its id and version.

    `session_id`: 1 to 256 bytes of UTF-8; groups contexts. `ttl`: whole seconds or a timedelta, 60 to 86,400
    unless configured otherwise; None takes the context type's policy (3600). `compression`: auto, none, light,
    standard, aggressive; None takes the policy (auto). `context_id`: a UUID v4; None mints one. `if_version`:
    write only if this is the stored version; 0 only if there is none. `lease`: what `lease` gave, while one is live.
    `durability`: memory, local, replicated.
    `dry_run`: True checks and answers as live would and changes nothing. `request_id`: names the request; the
    same name within 10 minutes returns the first answer and does nothing. `emit`: a `NewEvent`, or up to 16,
    put on the bus in the same step.

    After success the data, its metadata, deadline, index, quota and event stand together; after a failure none
    of them changed, except after `OutcomeUnknown`, where repeating with `fields["request_id"]` is safe.

    Raises:
        InvalidArgument, InvalidId, SerializationError, ContextTooLarge: Nothing was sent; do not retry.
        VersionConflict, SessionConflict, LeaseHeld, LeaseLost, RequestReused: Nothing was changed; read again, decide.
        StoreFull, Throttled, TenantPaused, Unavailable: Nothing was changed; retry later.
        OutcomeUnknown, DurabilityUnknown: May be stored; repeat with the same request id.
    """
    policy = space.settings.policy(valid_name(context_type, "context_type"))
    asked_ttl = ttl if ttl is not None else policy.ttl_seconds
    ttl_ms = ttl_milliseconds(space, asked_ttl if asked_ttl is not None else space.settings.default_ttl_seconds)
    sid = valid_session(session_id)
    known = valid_context_id(context_id) if context_id is not None else ""
    cid = known or mint_context_id(sid, space.mint())
    level = compression if compression is not None else policy.compression
    choose(level, 0)
    packing = yield from _encode(space, data, cid, level)
    encoded = packing.encoded
    asked = ("preserve", sid, context_type, ttl_ms, level, known, if_version, encoded.checksum)
    wanted = _Wanted(
        cid,
        sid,
        context_type,
        ttl_ms,
        version_argument(if_version),
        space.mint()[:16],
        encoded,
        begin(space, asked, request_id, durability, dry_run),
        lease_argument(lease),
    )
    return _preserved(wanted, (yield from with_events(space, _stored(space, wanted, packing), emit)))


def preserve_many(space: Space, items: Sequence[Mapping[str, Any]]) -> Op[list[Preserved | LukhasRedisError]]:
    """Store several contexts, each atomic by itself, in one round trip per node.

    Each item is a mapping with the arguments of `preserve` by name (`session_id` and `data` at least). The result
    holds, in the order of the items, what was stored or the error that item met; one failure does not disturb the
    others.

    Raises:
        InvalidArgument: An item is not a mapping or names an unknown argument; nothing was sent.
    """
    wanted = [_arguments(place, item) for place, item in enumerate(items)]
    return (yield from together([preserve(space, **item) for item in wanted]))


def _arguments(place: int, item: object) -> dict[str, Any]:
    if isinstance(item, Mapping) and {"session_id", "data"} <= item.keys() <= _ARGUMENTS:
        return dict(item)
    raise InvalidArgument(f"items[{place}] needs session_id and data, and may have {sorted(_ARGUMENTS)}")


_ARGUMENTS = frozenset(preserve.__annotations__) - {"space", "return"}


def ttl_milliseconds(space: Space, ttl: object) -> int:
    """A time to live as the script takes it: whole seconds within the configured bounds.

    Raises:
        InvalidArgument: Not whole seconds, or out of bounds; nothing was sent. A retry cannot help.
    """
    low, high = space.settings.min_ttl_seconds, space.settings.max_ttl_seconds
    seconds: object = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(seconds, float) and isinstance(ttl, timedelta) and seconds.is_integer():
        seconds = int(seconds)
    if type(seconds) is not int or not low <= seconds <= high:
        raise InvalidArgument(f"ttl {ttl!r:.40} is not a whole number of seconds from {low} to {high}", ttl=str(ttl))
    return seconds * 1000


def version_argument(if_version: object) -> int:
    """`if_version` as the script takes it: -1 stands for any version.

    Raises:
        InvalidArgument: Not a whole number from 0; nothing was sent. A retry cannot help.
    """
    if if_version is None:
        return -1
    if type(if_version) is not int or not 0 <= if_version <= 10**15:
        raise InvalidArgument(f"if_version {if_version!r:.40} is not a version (a whole number from 0)")
    return if_version


def rewrite(
    space: Space,
    metadata: Metadata,
    data: dict[Any, Any],
    event: str,
    version: int,
    ttl_ms: int,
    lease: str,
    write: Write,
) -> Op[Sequence[bytes]]:
    """Write a context whole that was read at `version` and changed: an append or patch too large for a segment.

    Raises:
        VersionConflict: Somebody else wrote; nothing was changed.
    """
    cid = metadata.context_id
    compression = "aggressive" if metadata.level == _HIGHEST else "auto"
    packing = yield from _encode(space, data, cid, compression)
    # Its nonce, and not a new one: another incarnation may have reached the same version.
    sid, kind, nonce = metadata.session_id, metadata.context_type, metadata.incarnation
    wanted = _Wanted(cid, sid, kind, ttl_ms, version, nonce, packing.encoded, write, lease, event)
    return (yield from _stored(space, wanted, packing))


def _encode(space: Space, data: Mapping[str, Any], cid: str, compression: str | int) -> Op[_Packing]:
    """The data is packed here and now, so that it may be changed afterwards; the rest may go on beside the loop."""
    raw, serialize_ms = serialize_timed(data, space.limits)
    top = dict(islice(data.items(), KNOWN_LISTS)) if type(data) is dict else None
    encoded = yield from sealed(space, raw, cid, compression, serialize_ms)
    settings = space.settings
    if settings.slow_codec == "refuse":
        for step, took, limit in (
            ("serialization", encoded.serialize_ms, settings.max_serialization_time_ms),
            ("compression", encoded.compress_ms, settings.max_compression_time_ms),
        ):
            if took > limit:
                text = f"{step} took {took:.0f} ms, over max_{step}_time_ms {limit}"
                raise SerializationError(text, path="", step=step)
    return _Packing(raw, top, encoded)


def _stored(space: Space, wanted: _Wanted, packing: _Packing) -> Op[Sequence[bytes]]:
    subject = f"context {wanted.context_id} of tenant {space.tenant}"
    victims: list[str] = []
    try:
        steps = 0
        while steps < _MOST_STEPS:
            reply = yield from settle(space, wanted.context_id, partial(_call, space, wanted, victims))
            if reply[0] == b"OK":
                space.seen_dry = reply[1] == b"1" and not wanted.write.dry
                _remember(space, wanted, reply, packing)
                return reply
            space.seen_dry = space.seen_dry and reply[0] != b"LIVE"
            victims = [victim.decode() for victim in reply[1:]]
            gone = (yield from sweep_around(space, wanted.context_id)) if reply[0] == b"PURGE" else 0
            # However many expired contexts lie ahead, sweeping them is progress and ends.
            steps += not gone
    except Refused as refused:
        raise explain(refused, subject) from None
    raise StoreFull(f"{subject}: others fill the tenant faster than room can be made", scope="entries")


def _remember(space: Space, wanted: _Wanted, reply: Sequence[bytes], packing: _Packing) -> None:
    """The structure that was written, for appends to come; the data itself where the type is held near."""
    if wanted.write.dry or reply[1] == b"1":
        return
    cid, nonce, sequence = wanted.context_id, reply[4].decode(), int(reply[5])
    if reply[8].decode() != cid:
        # The first answer to a request that minted another id then.
        return
    held = Held(nonce, sequence, wanted.encoded.digest, sequence, Parts((packing.raw,)))
    space.seen.note(cid, held.look, packing.top)
    if space.holds(wanted.context_type):
        space.near.put(cid, held)


def _call(space: Space, wanted: _Wanted, victims: Sequence[str], keys: ShardKeys) -> Call:
    encoded, write = wanted.encoded, wanted.write
    large = encoded.stored_bytes > space.settings.inline_body_bytes
    ahead = large and not write.dry and not space.seen_dry
    stage = keys.stage(space.mint() if ahead else "none")
    values: dict[str, Arg] = {
        "session": keys.session(wanted.session_id),
        "req": keys.request(write.request_id),
        "stage": stage,
        "request_id": write.request_id,
        "request": write.digest,
        "lease": wanted.lease,
        "sid": wanted.session_id,
        "ttl_ms": wanted.ttl_ms,
        "if_version": wanted.if_version,
        "raw_bytes": encoded.raw_bytes,
        "bytes": encoded.stored_bytes,
        "level": encoded.level,
        "checksum": encoded.checksum,
        "digest": encoded.digest,
        "nonce": wanted.nonce,
        "staged": _BESIDE if ahead else _ABSENT if large or write.dry else _INLINE,
    }
    payload = header_of(encoded.stored) if large or write.dry else encoded.stored
    filled = _frame(space, keys, write, wanted.context_type, wanted.event).fill(wanted.context_id, values, payload)
    call = write_call(filled, keys, write)
    if ahead:
        call.stage = Stage(stage, encoded.stored)
    if victims:
        more = [key for victim in victims for key in context_keys(keys, victim).values()]
        call.words, call.packed = filled.with_more(more, victims), None
    return call


def _frame(space: Space, keys: ShardKeys, write: Write, context_type: str, event: str) -> Frame:
    """What preserves of one type on one shard have in common."""
    known = "preserve", *place_of(space, keys), write.dry, write.durability, context_type, event
    found = space.frames.get(known)
    if found is not None:
        return found
    args: dict[str, Arg] = {
        **common_args(space, keys, write),
        **limit_args(space, context_type),
        **dict.fromkeys(_OPEN_ARGS, OPEN),
        "id": ANY_ID,
        "type": context_type,
        "event": event,
        "payload": b"",
    }
    names = {
        **context_keys(keys, ANY_ID),
        **shard_keys(keys, *ACCOUNT_KEYS),
        **dict.fromkeys(("session", "req", "stage"), OPEN),
    }
    return space.framed(known, Frame(load("preserve"), names, args))


def limit_args(space: Space, context_type: str) -> dict[str, Arg]:
    """The `@limits` group: a shard's part of the tenant's limits, rounded down so that the sum never exceeds them."""
    settings, shards = space.settings, space.shard_count
    share = settings.policy(context_type).capacity_share
    return {
        "max_entries": settings.max_memory_store_entries // shards,
        # 0 would be no limit.
        "max_bytes": max(settings.max_tenant_bytes // shards, min(settings.max_tenant_bytes, 1)),
        "max_type": max(1, int(settings.max_memory_store_entries * share) // shards) if share < 1 else 0,
        "policy": settings.eviction_policy,
        "rate": settings.max_context_throughput_mbps * 125_000 // shards,
    }


def _preserved(wanted: _Wanted, reply: Sequence[bytes]) -> Preserved:
    _, dry, version, expires_ms, nonce, _, evicted, created_ms, context_id = map(bytes.decode, reply)
    encoded = wanted.encoded
    return Preserved(
        context_id=context_id,
        version=int(version),
        expires_ms=int(expires_ms),
        created_ms=int(created_ms),
        incarnation=nonce,
        session_id=wanted.session_id,
        context_type=wanted.context_type,
        raw_bytes=encoded.raw_bytes,
        stored_bytes=encoded.stored_bytes,
        level=encoded.level,
        checksum=encoded.checksum,
        evicted=int(evicted),
        request_id=wanted.write.request_id,
        dry_run=wanted.write.dry or dry == "1",
        serialize_ms=encoded.serialize_ms,
        compress_ms=encoded.compress_ms,
    )
