"""metadata, lifecycle, hops: what is known about one context without reading its data.

What belongs here: turning the stored text fields into values and documents. What does not: the data (`restore`).
Invariant: nothing here changes anything, not even the time of last access.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lukhas_redis.calls import Call, Op, Refused
from lukhas_redis.documents import Invariants, LifecycleDocument, LifecycleMetadata, Transition
from lukhas_redis.errors import ContextCorrupted
from lukhas_redis.keys import ShardKeys, valid_context_id
from lukhas_redis.models import Hop, Lease, Metadata
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, settle
from lukhas_redis.ops.writing import context_keys, shard_keys
from lukhas_redis.scripts import load

CONTRACT_TTL_SECONDS = range(60, 86_401)
_DRIFT_MS = 1000  # MIGRATE sends how long a key has left: a slot on the move shifts deadlines by milliseconds


def metadata(space: Space, context_id: str) -> Op[Metadata]:
    """Return what is known about a context without its data; changes nothing.

    Raises:
        InvalidId: Nothing was sent; do not retry.
        ContextNotFound and its kin: It is not there, and why.
        Unavailable: Retry later.
    """
    cid = valid_context_id(context_id)

    def call(keys: ShardKeys) -> Call:
        script = load("metadata")
        names = {"ctx": keys.ctx(cid), **shard_keys(keys, "index", "tombs", "shard")}
        return Call(script, keys.tag, script.pack(names, {"id": cid, "marker": space.markers.get(keys.tag, "")}))

    reply = yield from _asked(space, cid, call)
    return metadata_from(cid, fields_of(reply[2:]), reply[1])


def lifecycle(space: Space, context_id: str) -> Op[LifecycleDocument]:
    """Return a context's lifecycle document: state, up to 16 transitions, and whether its invariants hold.

    Raises:
        InvalidId: Nothing was sent; do not retry.
        ContextNotFound and its kin: It is not there, and why.
        ContextCorrupted: Its metadata or a transition is not ours; it was left as it is.
        Unavailable: Retry later.
    """
    cid = valid_context_id(context_id)
    reply = yield from _asked(space, cid, _life(space, cid))
    now_ms, body_bytes, segments, ctx_deadline, body_deadline, flat, log, _ = reply
    fields = fields_of(flat)
    known = metadata_from(cid, fields, now_ms)
    try:
        transitions = _transitions(known, log)
    except ValueError as error:
        raise ContextCorrupted(f"context {cid}: a transition cannot be read ({error!r:.80})", context_id=cid) from None
    invariants = Invariants(
        unique_context_id=True,
        ttl_respected=all(abs(one - known.expires_ms) <= _DRIFT_MS for one in (ctx_deadline, body_deadline)),
        checksum_valid=len(known.checksum) == 64,
        single_store_source=body_bytes == int(fields[b"stored_bytes"]) and segments == known.segments,
    )
    return _document(known, transitions, invariants)


def hops(space: Space, context_id: str) -> Op[list[Hop]]:
    """Return a context's last handoffs, oldest first, up to 32; the count of all is in its metadata.

    Raises:
        InvalidId: Nothing was sent; do not retry.
        ContextNotFound and its kin: It is not there, and why.
        ContextCorrupted: A hop record is not ours; it was left as it is.
        Unavailable: Retry later.
    """
    cid = valid_context_id(context_id)
    records = (yield from _asked(space, cid, _life(space, cid)))[7]
    try:
        return [_hop(record.decode("utf-8")) for record in records]
    except (ValueError, KeyError) as error:
        raise ContextCorrupted(f"context {cid}: a hop record cannot be read ({error!r:.80})") from None


def _hop(record: str) -> Hop:
    *words, last = record.split(" ", 6)
    facts = dict(word.split("=", 1) for word in words)
    note = last.removeprefix("note=")
    return Hop(
        number=int(facts["hop"]),
        at_ms=int(facts["at"]),
        source=facts["from"],
        destination=facts["to"],
        version=int(facts["version"]),
        previous_ms=int(facts["previous_us"]) / 1000,
        metadata=_note(note),
    )


def _note(note: str) -> Any:
    """What a handoff was told: a store writes JSON, an operator any text."""
    try:
        return json.loads(note) if note else None
    except (ValueError, RecursionError):
        return note


def _life(space: Space, cid: str) -> Callable[[ShardKeys], Call]:
    def call(keys: ShardKeys) -> Call:
        script = load("lifecycle")
        names = {**context_keys(keys, cid), **shard_keys(keys, "index", "tombs", "shard")}
        return Call(script, keys.tag, script.pack(names, {"id": cid, "marker": space.markers.get(keys.tag, "")}))

    return call


def _asked(space: Space, cid: str, call: Callable[[ShardKeys], Call]) -> Op[Sequence[Any]]:
    try:
        return (yield from settle(space, cid, call))
    except Refused as refused:
        raise explain(refused, f"context {cid} of tenant {space.tenant}", reset=space.resets > 0) from None


def pairs(flat: Sequence[bytes | str | int] | Mapping[bytes, bytes]) -> dict[str, Any]:
    """A field list of RESP2 (or a map of RESP3) as a dict with text keys."""
    items = flat.items() if isinstance(flat, Mapping) else zip(flat[::2], flat[1::2], strict=True)
    return {name.decode() if isinstance(name, bytes) else str(name): value for name, value in items}


def fields_of(flat: Sequence[Any] | Mapping[Any, Any]) -> dict[bytes, Any]:
    """A field list of RESP2 (or a map of RESP3) as a dict; faster than `pairs`, for the many."""
    return dict(flat) if isinstance(flat, Mapping) else dict(zip(flat[::2], flat[1::2], strict=True))


def metadata_from(context_id: str, fields: Mapping[bytes, Any], now_ms: object) -> Metadata:
    """The stored text fields as values.

    Raises:
        ContextCorrupted: A field is missing or holds something else; it was left as it is.
    """
    try:
        return _metadata(context_id, fields, _number(now_ms))
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise ContextCorrupted(f"context {context_id}: its metadata cannot be read ({error!r:.80})") from None


def _metadata(context_id: str, fields: Mapping[bytes, Any], now_ms: int) -> Metadata:
    get = fields.get
    owner, accessed, segments, lease = get(b"owner"), get(b"accessed_ms"), get(b"segs"), get(b"lease")
    digest = fields[b"digest"].decode()
    appended = _number(get(b"segs_raw") or 0)
    return Metadata.of(
        context_id=context_id,
        version=_number(fields[b"version"]),
        incarnation=fields[b"nonce"].decode(),
        sequence=_number(fields[b"seq"]),
        session_id=fields[b"session"].decode(),
        context_type=fields[b"type"].decode(),
        owner=owner.decode() if owner else None,
        created_ms=_number(fields[b"created_ms"]),
        updated_ms=_number(fields[b"updated_ms"]),
        expires_ms=_number(fields[b"expires_ms"]),
        ttl_ms=_number(fields[b"ttl_ms"]),
        accessed_ms=_number(accessed) if accessed else None,
        hop_count=_number(get(b"hops") or 0),
        pinned=bool(get(b"pinned")),
        raw_bytes=_number(fields[b"raw_bytes"]) + appended,
        stored_bytes=_number(fields[b"stored_bytes"]) + _number(get(b"segs_bytes") or 0),
        level=_number(fields[b"level"]),
        checksum=fields[b"checksum"].decode(),
        digest=digest,
        now_ms=now_ms,
        segments=_number(segments) if segments else 0,
        appended_bytes=appended,
        chain=fields[b"chain"].decode() if b"chain" in fields else digest,
        lease=_lease(context_id, lease, get(b"lease_owner"), now_ms) if lease else None,
    )


def _lease(context_id: str, lease: bytes, owner: bytes | None, now_ms: int) -> Lease | None:
    token, until_ms = (_number(part) for part in lease.split(b" "))
    return Lease(context_id, (owner or b"").decode(), token, until_ms) if until_ms > now_ms else None


def _number(value: object) -> int:
    """A whole number as our scripts write them: int() alone would take spaces, underscores and any length."""
    if isinstance(value, bytes) and value.isdigit() and len(value) <= 16:
        return int(value)
    if isinstance(value, int) and 0 <= value < 10**16:
        return value
    raise ValueError(f"{value!r:.40} is no number of ours")


def _transitions(known: Metadata, log: Sequence[bytes]) -> list[Transition]:
    """The creation, which the metadata tells, and then what the log holds."""
    steps = [(known.created_ms, "created", "preserved")]
    for entry in log:
        at, before, after = entry.decode().split(" ")
        steps.append((int(at), before, after))
    return [
        Transition.model_validate(
            {
                "timestamp": at / 1000,
                "from_state": before,
                "to_state": after,
                "event": after,
                "duration_ms": at - steps[place - 1][0] if place else 0,
            }
        )
        for place, (at, before, after) in enumerate(steps)
    ]


def _document(known: Metadata, transitions: list[Transition], invariants: Invariants) -> LifecycleDocument:
    """Validated, unless the operator configured lifetimes that the contract's document has no room for."""
    seconds = known.ttl_ms // 1000
    about = {
        "created_at": known.created_ms / 1000,
        "ttl_seconds": seconds,
        "compression_level": known.level,
        "checksum": known.checksum,
    }
    valid = seconds in CONTRACT_TTL_SECONDS
    made = LifecycleMetadata.model_validate(about) if valid else LifecycleMetadata.model_construct(None, **about)
    return LifecycleDocument.model_construct(
        None,
        context_id=known.context_id,
        lifecycle_state=transitions[-1].to_state,
        state_transitions=transitions,
        metadata=made,
        invariants=invariants,
    )
