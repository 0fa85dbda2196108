"""restore: read a context whole, or several in one round trip per node.

What belongs here: matching a large body to its metadata, verifying, noting the read. What does not: the codec.
Invariant: what is returned was verified against both checksums, and metadata and data are of one write.
"""

from __future__ import annotations

from collections.abc import Sequence

from lukhas_redis.calls import Call, Op, Read, Refused, Snapshot, together
from lukhas_redis.codec import decode, read_header
from lukhas_redis.errors import (
    AccessDenied,
    ContextCorrupted,
    ContextLost,
    LukhasRedisError,
    UnsupportedFormat,
)
from lukhas_redis.keys import ShardKeys, valid_context_id
from lukhas_redis.models import Context, Metadata
from lukhas_redis.ops.describe import metadata_from
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, discover, settle
from lukhas_redis.ops.writing import shard_keys
from lukhas_redis.scripts import Arg, load

_FIELDS = (
    *("version", "nonce", "seq", "session", "type", "owner", "created_ms", "updated_ms", "expires_ms", "ttl_ms"),
    *("accessed_ms", "hops", "pinned", "raw_bytes", "stored_bytes", "level", "checksum", "digest", "now_ms"),
)
_MISSES = 2


def restore(space: Space, context_id: str, *, touch: bool = True) -> Op[Context]:
    """Return a context's data, metadata and version.

    `context_id`: a UUID v4. `touch` notes the read (at most once a minute, best effort, never the deadline).
    After success the data equals what was preserved, in value and type, and both checksums held. Failure
    changes nothing; damaged data is kept for inspection.

    Raises:
        InvalidId: Nothing was sent; do not retry.
        ContextNotFound, ContextExpired, ContextDropped, ContextEvicted, ContextLost: It is not there, and why.
        ContextCorrupted, UnsupportedFormat: It is there and cannot be trusted or read; do not retry.
        Unavailable, AccessDenied: Nothing is known about it; retry an `Unavailable`.
    """
    cid = valid_context_id(context_id)
    subject = f"context {cid} of tenant {space.tenant}"
    try:
        metadata, stored = yield from _read_whole(space, cid)
        data = decode(stored, cid, checksum=metadata.checksum, digest=metadata.digest, limits=space.limits)
    except Refused as refused:
        raise explain(refused, subject, reset=space.resets > 0) from None
    except (ContextCorrupted, UnsupportedFormat) as error:
        yield from _report(space, cid)
        raise type(error)(f"{subject}: {error.message}", context_id=cid, **error.fields) from error
    if touch:
        yield from _touch(space, metadata)
    return Context(data, metadata)


def restore_many(
    space: Space, context_ids: Sequence[str], *, touch: bool = True
) -> Op[list[Context | LukhasRedisError]]:
    """Read several contexts in one round trip per node; in their order, each a context or the error it met.

    Raises:
        InvalidId: An id is malformed; nothing was sent.
    """
    ids = [valid_context_id(context_id) for context_id in context_ids]
    if space.shards is None:
        yield from discover(space)
    return (yield from together([restore(space, cid, touch=touch) for cid in ids]))


def _read_whole(space: Space, cid: str) -> Op[tuple[Metadata, bytes]]:
    """Metadata and body of one write: a large body that changed under way is asked for again, then in one MULTI."""
    for _ in range(_MISSES):
        reply = yield from settle(space, cid, lambda keys: _call(space, keys, cid))
        metadata = metadata_from(cid, dict(zip(_FIELDS, reply, strict=False)))
        if reply[19] or not metadata.stored_bytes:
            return metadata, reply[19]
        body = yield from _body(space, cid)
        if body is not None and _is_of(body, metadata):
            return metadata, body
    return (yield from _snapshot(space, cid))


def _call(space: Space, keys: ShardKeys, cid: str) -> Call:
    script = load("restore")
    names = {"ctx": keys.ctx(cid), "body": keys.body(cid), **shard_keys(keys, "index", "tombs", "shard")}
    marker, inline = space.markers.get(keys.tag, ""), space.settings.inline_body_bytes
    args: dict[str, Arg] = {"id": cid, "marker": marker, "inline": inline}
    return Call(script, keys.tag, script.pack(names, args))


def _body(space: Space, cid: str) -> Op[bytes | None]:
    keys = space.shard_for(cid)
    return (yield Read(keys.tag, ("GET", keys.body(cid))))  # type: ignore[no-any-return]


def _is_of(body: bytes, metadata: Metadata) -> bool:
    """Whether the body is the one the metadata was written with (a torn read is not damage)."""
    try:
        return read_header(body).digest == metadata.digest
    except (ContextCorrupted, UnsupportedFormat):
        return False


def _snapshot(space: Space, cid: str) -> Op[tuple[Metadata, bytes]]:
    keys = space.shard_for(cid)
    reply, body = yield Snapshot(_call(space, keys, cid), Read(keys.tag, ("GET", keys.body(cid))))
    metadata = metadata_from(cid, dict(zip(_FIELDS, reply, strict=False)))
    if body is None:
        raise ContextLost(f"context {cid} of tenant {space.tenant} has metadata and no body", reason="lost")
    return metadata, body


def _touch(space: Space, metadata: Metadata) -> Op[None]:
    """Note the read when it is due; whatever goes wrong with that is not the reader's concern."""
    interval = space.settings.touch_interval_seconds * 1000
    last = metadata.accessed_ms or 0
    if space.touch_denied or (last >= metadata.updated_ms and metadata.now_ms - last < interval):
        return
    keys = space.shard_for(metadata.context_id)
    script = load("touch")
    names = {"ctx": keys.ctx(metadata.context_id), "log": keys.log(metadata.context_id)}
    args: dict[str, Arg] = {
        "id": metadata.context_id,
        "mode": space.settings.initial_mode,
        "policy": space.settings.eviction_policy,
        "interval_ms": interval,
    }
    words = script.pack({**names, **shard_keys(keys, "order", "usage", "flags")}, args)
    yield from _best_effort(space, Call(script, keys.tag, words, best_effort=True))


def _report(space: Space, cid: str) -> Op[None]:
    """Tell the tenant's other workers that damaged bytes were seen."""
    keys = space.shard_for(cid)
    script = load("report")
    mode, window = space.settings.initial_mode, space.settings.event_window_entries
    args: dict[str, Arg] = {"mode": mode, "window": window, "id": cid}
    words = script.pack(shard_keys(keys, "usage", "events", "flags"), args)
    yield from _best_effort(space, Call(script, keys.tag, words, best_effort=True))


def _best_effort(space: Space, call: Call) -> Op[None]:
    try:
        yield call
    except AccessDenied:
        space.touch_denied = True
    except (LukhasRedisError, Refused):
        return
