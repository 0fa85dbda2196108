"""restore: read a context whole, or several in one round trip per node.

What belongs here: what the caller is given, and noting the read. What does not: reading and verifying (`reading`).
Invariant: what is returned was verified against both checksums, and metadata and data are of one moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from lukhas_redis.calls import Call, Op, Refused, together
from lukhas_redis.codec import CodecLimits, serialize
from lukhas_redis.errors import AccessDenied, ContextCorrupted, LukhasRedisError, UnsupportedFormat
from lukhas_redis.keys import valid_context_id
from lukhas_redis.models import Context, Metadata
from lukhas_redis.ops.folding import fold_when_due
from lukhas_redis.ops.reading import Found, read
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, discover
from lukhas_redis.ops.writing import shard_keys
from lukhas_redis.scripts import Arg, load

# For data that was within its store's limits when it was read.
_WIDEST = CodecLimits(max_context_size_bytes=268_435_456, max_depth=200, max_items=268_435_456)


def restore(space: Space, context_id: str, *, touch: bool = True, shared: bool = False) -> Op[Context]:
    """Return a context's data, metadata and version.

    `context_id`: a UUID v4. `touch` notes the read (at most once a minute, best effort, never the deadline).
    `shared`: True gives a read-only view of the data, the same one to every reader of this process while the context
    is in the near cache (its dicts, lists and sets raise `TypeError` when they are changed; `copy.deepcopy` makes
    plain ones); False gives a private copy. After success the data equals what was preserved, appended and patched, in
    value and type, and every checksum held. Failure changes nothing; damaged data is kept for inspection.

    What the near cache holds is confirmed by the server at every call: it is never older than the answer.

    Raises:
        InvalidId: Nothing was sent; do not retry.
        ContextNotFound, ContextExpired, ContextDropped, ContextEvicted, ContextLost: It is not there, and why.
        ContextCorrupted, UnsupportedFormat: It is there and cannot be trusted or read; do not retry.
        Unavailable, AccessDenied: Nothing is known about it; retry an `Unavailable`.
    """
    cid = valid_context_id(context_id)
    found = yield from found_in(space, cid)
    held, metadata = found.held, found.metadata
    try:
        data = held.shared(space.limits) if shared else held.copy(space.limits)
    except (ContextCorrupted, UnsupportedFormat) as error:
        raise (yield from _damaged(space, cid, error)) from error
    if shared:
        space.near.weigh(cid, held)
    space.seen.note(cid, held.look, data)
    if touch and _touch_is_due(space, metadata, hit=found.hit):
        yield from _touch(space, metadata, hit=found.hit)
    if metadata.segments:
        yield from fold_when_due(space, cid, held, metadata)
    return Context(data, metadata, found.hit)


def restore_many(
    space: Space, context_ids: Sequence[str], *, touch: bool = True, shared: bool = False
) -> Op[list[Context | LukhasRedisError]]:
    """Read several contexts in one round trip per node; in their order, each a context or the error it met.

    Raises:
        InvalidId: An id is malformed; nothing was sent.
    """
    ids = [valid_context_id(context_id) for context_id in context_ids]
    if space.shards is None:
        yield from discover(space)
    return (yield from together([restore(space, cid, touch=touch, shared=shared) for cid in ids]))


def checksum_of(context: Context) -> str:
    """SHA-256 (64 hex digits) of all serialized data of a context, whatever was appended to it; costs a serialization.

    Raises:
        SerializationError: A private copy was given values that cannot be stored; do not retry.
    """
    return sha256(serialize(context.data, _WIDEST)).hexdigest()


def found_in(space: Space, cid: str) -> Op[Found]:
    """What is stored under an id, verified; damage is counted and told.

    Raises:
        ContextNotFound and its kin: It is not there, and why.
        ContextCorrupted, UnsupportedFormat: It is there and cannot be trusted or read.
    """
    try:
        return (yield from read(space, cid))
    except Refused as refused:
        raise (yield from refusal(space, cid, refused)) from None
    except (ContextCorrupted, UnsupportedFormat) as error:
        raise (yield from _damaged(space, cid, error)) from error


def refusal(space: Space, cid: str, refused: Refused, *, tells: bool = True) -> Op[LukhasRedisError]:
    """The error a refusal stands for. Damage that a script found is told as that which a reader finds (`tells`)."""
    space.near.forget(cid)
    if tells and refused.word == "LKCORRUPT" and refused.facts.get("key") in ("ctx", "segs"):
        yield from _report(space, cid)
    return explain(refused, f"context {cid} of tenant {space.tenant}", reset=space.resets > 0)


def _damaged(space: Space, cid: str, error: LukhasRedisError) -> Op[LukhasRedisError]:
    space.near.forget(cid)
    yield from _report(space, cid)
    fields = {**error.fields, "context_id": cid}
    return type(error)(f"context {cid} of tenant {space.tenant}: {error.message}", **fields)


def _touch_is_due(space: Space, metadata: Metadata, *, hit: bool) -> bool:
    """The first read after a write is noted at once, but not when the process held the context: that would be a second
    round trip for every turn of a conversation.
    """
    last = metadata.accessed_ms or 0
    recent = metadata.now_ms - last < space.settings.touch_interval_seconds * 1000
    return not (space.touch_denied or (recent and (hit or last >= metadata.updated_ms)))


def _touch(space: Space, metadata: Metadata, *, hit: bool) -> Op[None]:
    """Note the read; whatever goes wrong with that is not the reader's concern."""
    keys = space.shard_for(metadata.context_id)
    script = load("touch")
    names = {"ctx": keys.ctx(metadata.context_id), "log": keys.log(metadata.context_id)}
    args: dict[str, Arg] = {
        "id": metadata.context_id,
        "mode": space.settings.initial_mode,
        "policy": space.settings.eviction_policy,
        "interval_ms": space.settings.touch_interval_seconds * 1000,
        "state": "cached" if hit else "restored",
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
