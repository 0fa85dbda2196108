"""metadata, lifecycle, hops: what is known about one context without reading its data.

What belongs here: turning the stored text fields into values and documents. What does not: the data (`restore`).
Invariant: nothing here changes anything, not even the time of last access.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
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


_NUMBERS = (
    *(b"version", b"seq", b"created_ms", b"updated_ms", b"expires_ms", b"ttl_ms"),
    *(b"raw_bytes", b"stored_bytes", b"level"),
    *(b"accessed_ms", b"hops", b"segs", b"segs_raw", b"segs_bytes"),
)
_TEXTS = (b"nonce", b"session", b"type", b"checksum", b"digest", b"owner", b"chain")
_OPTIONAL = {b"accessed_ms", b"hops", b"segs", b"segs_raw", b"segs_bytes", b"owner", b"chain"}
_MOST_DIGITS = 16


class _Layout:
    """In which order a server gave the fields of a context, so that many values can be taken at once.

    Behind the values of the fields stand those of fields that are missing: "0" for a number, "" for a text.
    """

    def __init__(self, names: tuple[bytes, ...]) -> None:
        self.places = {name: place for place, name in enumerate(names)}
        zero, empty = len(names), len(names) + 1
        self.numbers = itemgetter(*(self._place(name, zero) for name in _NUMBERS))
        self.texts = itemgetter(*(self._place(name, empty) for name in _TEXTS))

    def _place(self, name: bytes, missing: int) -> int:
        return self.places.get(name, missing) if name in _OPTIONAL else self.places[name]


_layout = lru_cache(maxsize=256)(_Layout)


class Fields:
    """The stored fields of a context by name, and all of them in the order of their layout."""

    __slots__ = ("all", "layout")

    def __init__(self, flat: Sequence[Any]) -> None:
        self.layout = _layout(tuple(flat[::2]))
        self.all = (*flat[1::2], b"0", b"")

    def __getitem__(self, name: bytes) -> Any:
        return self.all[self.layout.places[name]]

    def get(self, name: bytes) -> Any:
        """The value of a field, None where it is missing."""
        place = self.layout.places.get(name)
        return None if place is None else self.all[place]


def fields_of(flat: Sequence[Any] | Mapping[Any, Any]) -> Fields:
    """A field list of RESP2 (or a map of RESP3)."""
    return Fields([part for pair in flat.items() for part in pair] if isinstance(flat, Mapping) else flat)


def metadata_from(context_id: str, fields: Fields, now_ms: bytes | int) -> Metadata:
    """The stored text fields as values.

    Raises:
        ContextCorrupted: A field is missing or holds something else; it was left as it is.
    """
    try:
        return _metadata(context_id, fields, now_ms if isinstance(now_ms, bytes) else b"%d" % now_ms)
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise ContextCorrupted(f"context {context_id}: its metadata cannot be read ({error!r:.80})") from None


def _metadata(context_id: str, fields: Fields, moment: bytes) -> Metadata:
    layout, values = fields.layout, fields.all
    now_ms, version, seq, created, updated, expires, ttl, raw, stored, level, *others = _whole(
        (moment, *layout.numbers(values))
    )
    accessed, hops, segments, appended, appended_stored = others
    # No text of ours holds a control character.
    nonce, session, kind, checksum, digest, owner, chain = b"\n".join(layout.texts(values)).decode().split("\n")
    return Metadata.of(
        {
            "context_id": context_id,
            "version": version,
            "incarnation": nonce,
            "sequence": seq,
            "session_id": session,
            "context_type": kind,
            "owner": owner or None,
            "created_ms": created,
            "updated_ms": updated,
            "expires_ms": expires,
            "ttl_ms": ttl,
            "accessed_ms": accessed or None,
            "hop_count": hops,
            "pinned": bool(fields.get(b"pinned")),
            "raw_bytes": raw + appended,
            "stored_bytes": stored + appended_stored,
            "level": level,
            "checksum": checksum,
            "digest": digest,
            "now_ms": now_ms,
            "segments": segments,
            "appended_bytes": appended,
            "chain": chain or digest,
            "lease": _lease(context_id, fields, now_ms),
        }
    )


def _lease(context_id: str, fields: Fields, now_ms: int) -> Lease | None:
    lease = fields.get(b"lease")
    if not lease:
        return None
    token, until_ms = _whole(lease.split(b" "))
    owner = fields.get(b"lease_owner") or b""
    return Lease(context_id, owner.decode(), token, until_ms) if until_ms > now_ms else None


def _whole(values: Sequence[bytes]) -> list[int]:
    """Whole numbers as our scripts write them: int() alone would take spaces, underscores and any length."""
    if b"".join(values).isdigit() and max(map(len, values)) <= _MOST_DIGITS:
        return [*map(int, values)]
    raise ValueError(f"{values!r:.60} are no numbers of ours")


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
