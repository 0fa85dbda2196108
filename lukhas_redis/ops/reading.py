"""Reading a context, or only what changed since it was read: the steps of `lua/restore.lua`'s protocol.

What belongs here: asking, matching what came in several replies, verifying body and segments. What does not: what the
caller is given (`restore`), and rewriting what was read (`folding`).
Invariant: what is returned was verified against its checksums and its chain, and is of one moment; a torn read is read
again and never called damage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from lukhas_redis.calls import Call, Op, Read, Snapshot, beside
from lukhas_redis.codec import chained, unseal, unseal_segment
from lukhas_redis.errors import ContextCorrupted, ContextLost
from lukhas_redis.keys import ShardKeys
from lukhas_redis.models import Metadata
from lukhas_redis.ops.describe import Fields, fields_of, metadata_from
from lukhas_redis.ops.frame import ANY_ID, OPEN, Frame
from lukhas_redis.ops.near import Held, Parts
from lukhas_redis.ops.space import Space, settle
from lukhas_redis.scripts import Arg, load

_MISSES = 2
_SLACK_BYTES = 65_536


class Found(NamedTuple):
    """A context that was read; `hit`: not all of it had to be sent."""

    held: Held
    metadata: Metadata
    hit: bool


class _TornError(Exception):
    """What came in several replies does not belong together."""


def read(space: Space, cid: str) -> Op[Found]:
    """The newest state of a context; what the near cache holds of it is only asked about.

    Raises:
        Refused: It is not there, and why.
        ContextCorrupted, UnsupportedFormat: It is there and cannot be trusted or read.
    """
    held = space.near.get(cid)
    for _ in range(_MISSES):
        # Others may learn of newer metadata meanwhile, or be late with older: the answer is about what was asked.
        known, stamp = held.about if held is not None else (None, "")
        reply = yield from settle(space, cid, partial(_call, space, cid, held, stamp))
        if held is not None and reply[0] != b"FULL":
            found = _newer(space, cid, held, known, reply)
            if found is not None:
                return found
            # Another history than the one held, as after a failover: nothing held is of use.
            held = None
            continue
        held = None
        try:
            return (yield from _whole(space, cid, reply))
        except _TornError:
            continue
    return (yield from _snapshot(space, cid))


def _call(space: Space, cid: str, held: Held | None, stamp: str, keys: ShardKeys) -> Call:
    marker = space.markers.get(keys.tag, "")
    known = "restore", keys.base, marker, held is None
    frame = space.frames.get(known) or space.framed(known, _frame(space, keys, marker, held))
    filled = frame.fill(cid, {"held": held.identity, "stamp": stamp} if held is not None else {})
    return Call(filled.script, keys.tag, filled, packed=filled.packed)


def _frame(space: Space, keys: ShardKeys, marker: str, held: Held | None) -> Frame:
    names = {"ctx": keys.ctx(ANY_ID), "body": keys.body(ANY_ID), "segs": keys.segs(ANY_ID), "index": keys.index}
    names |= {"tombs": keys.tombs, "shard": keys.shard}
    given = OPEN if held is not None else ""
    args: dict[str, Arg] = {
        "id": ANY_ID,
        "marker": marker,
        "inline": space.settings.inline_body_bytes,
        "held": given,
        "stamp": given,
    }
    return Frame(load("restore"), names, args)


# -- what is held already ----------------------------------------------------------------------------------------


def _newer(space: Space, cid: str, held: Held, known: Metadata | None, reply: Sequence[Any]) -> Found | None:
    word, now_ms = reply[0], int(reply[1])
    if word == b"SAME" and known is not None:
        return Found(held, known.at(now_ms), hit=True)
    if len(reply) < 3:
        return None
    fields = fields_of(reply[2])
    metadata = metadata_from(cid, fields, now_ms)
    if word == b"GREW":
        changes, chain = _changes(space, cid, reply[3:], held.chain)
        if chain != metadata.chain:
            return None
        held = _grown(space, cid, held, changes, metadata, _shape(cid, fields))
    else:
        # A patch that another worker had made already may have changed it there by another number than here.
        held.shape = _shape(cid, fields)
    held.about = (metadata, stamp_of(fields))
    if held.parts.bytes > 2 * metadata.raw_bytes + _SLACK_BYTES:
        # Long since folded on the server: to read it whole once is less than to carry all its changes for ever.
        space.near.forget(cid)
    else:
        space.near.put(cid, held)
    return Found(held, metadata, hit=True)


def _grown(space: Space, cid: str, held: Held, changes: Sequence[bytes], metadata: Metadata, shape: int) -> Held:
    """The newer content; another task that asked the same may have it already."""
    known = space.near.get(cid)
    if known is not None and known.identity == f"{held.nonce} {metadata.sequence} {metadata.chain}":
        return known
    return held.grown(changes, metadata.sequence, metadata.chain, shape, space.limits)


def stamp_of(fields: Fields) -> str:
    """What stands for all metadata that can change while the content does not."""
    names = (b"version", b"expires_ms", b"accessed_ms", b"pinned", b"lease", b"segs")
    return b" ".join([fields.get(name) or b"" for name in names]).decode("utf-8", "replace")


def _shape(cid: str, fields: Fields) -> int:
    """A context that was never appended to has the shape it was written with."""
    try:
        return int(fields.get(b"shape") or fields[b"seq"])
    except ValueError:
        raise ContextCorrupted("its metadata cannot be read (shape is no number of ours)", context_id=cid) from None


# -- all of it ---------------------------------------------------------------------------------------------------


def _whole(space: Space, cid: str, reply: Sequence[Any]) -> Op[Found]:
    """Body and segments, fetched beside the script where they are large.

    Raises:
        _TornError: They changed under way.
    """
    fields = fields_of(reply[2])
    metadata = metadata_from(cid, fields, reply[1])
    body, segments = reply[3], reply[4:]
    came_apart = (not body and fields[b"stored_bytes"] != b"0") or bool(metadata.segments and not segments)
    if came_apart:
        body, segments = yield from _apart(space, cid, metadata, body, segments)
    try:
        raw = yield from beside(_unsealing(space, metadata, body), len(body))
        return _verified(space, cid, fields, metadata, raw, segments)
    except ContextCorrupted as error:
        if came_apart and error.fields.get("reason") in ("segments", "digest"):
            raise _TornError from error
        raise


def _apart(
    space: Space, cid: str, metadata: Metadata, body: bytes, segments: Sequence[bytes]
) -> Op[tuple[bytes, Sequence[bytes]]]:
    """What the script left out, with what it gave.

    Raises:
        _TornError: They changed under way.
    """
    keys = space.shard_for(cid)
    if not body:
        body = yield Read(keys.tag, ("GET", keys.body(cid)))
    if metadata.segments and not segments:
        segments = yield Read(keys.tag, ("LRANGE", keys.segs(cid), 0, metadata.segments - 1))
    _together(body, segments, metadata)
    return body, segments


def _together(body: bytes | None, segments: Sequence[bytes], metadata: Metadata) -> None:
    """Let a body and segments that came by themselves pass when they may be those the metadata was written with."""
    # The digest stands at bytes 16 to 48 of every envelope.
    if body is None or body[16:48].hex() != metadata.digest or len(segments) != metadata.segments:
        raise _TornError


def _snapshot(space: Space, cid: str) -> Op[Found]:
    """Everything in one MULTI, for a context that is written faster than it can be read."""
    keys = space.shard_for(cid)
    reads = (
        Read(keys.tag, ("GET", keys.body(cid))),
        Read(keys.tag, ("LRANGE", keys.segs(cid), 0, -1)),
    )
    reply, body, segments = yield Snapshot(_call(space, cid, None, "", keys), reads)
    fields = fields_of(reply[2])
    metadata = metadata_from(cid, fields, reply[1])
    if body is None:
        raise ContextLost(f"context {cid} of tenant {space.tenant} has metadata and no body", reason="lost")
    raw = yield from beside(_unsealing(space, metadata, body), len(body))
    return _verified(space, cid, fields, metadata, raw, segments)


def _unsealing(space: Space, metadata: Metadata, body: bytes) -> Callable[[], bytes]:
    """What makes the serialized body of the stored one, both checksums verified."""
    cid, checksum, digest = metadata.context_id, metadata.checksum, metadata.digest
    return partial(unseal, body, cid, checksum=checksum, digest=digest, limits=space.limits)


def _verified(
    space: Space, cid: str, fields: Fields, metadata: Metadata, raw: bytes, segments: Sequence[bytes]
) -> Found:
    """Body and segments as one context, if these are all its segments; held near where its type is."""
    if len(segments) != metadata.segments:
        text = f"{len(segments)} of {metadata.segments} appended segments are there"
        raise ContextCorrupted(text, context_id=cid, reason="segments")
    root = (fields.get(b"root") or fields[b"digest"]).decode("utf-8", "replace")
    changes, chain = _changes(space, cid, segments, root) if segments else ([], root)
    if chain != metadata.chain:
        text = "the appended segments are not those that were appended, or not in their order"
        raise ContextCorrupted(text, context_id=cid, reason="segments")
    parts = Parts((raw, *changes))
    held = Held(metadata.incarnation, metadata.sequence, chain, _shape(cid, fields), parts, len(parts.list))
    if space.holds(metadata.context_type):
        held.about = (metadata, stamp_of(fields))
        space.near.put(cid, held)
    return Found(held, metadata, hit=False)


def _changes(space: Space, cid: str, segments: Sequence[bytes], chain: str) -> tuple[list[bytes], str]:
    """The serialized changes in verified segments, and the chain after them."""
    changes = []
    for segment in segments:
        raw, digest = unseal_segment(segment, cid, space.limits)
        changes.append(raw)
        chain = chained(chain, digest)
    return changes, chain
