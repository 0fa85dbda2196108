"""fold: write what was read as one body, so that the next reader has fewer segments to read.

What belongs here: when it is worth it, and the steps of `lua/fold.lua`. What does not: reading (`reading`).
Invariant: folding changes nothing that a reader can see; whoever writes meanwhile wins, and nothing is lost.
"""

from __future__ import annotations

from functools import partial

from lukhas_redis.calls import Call, Op, Refused, Stage, beside
from lukhas_redis.codec import Encoded, header_of, seal, serialize
from lukhas_redis.errors import AccessDenied, LukhasRedisError
from lukhas_redis.keys import ShardKeys
from lukhas_redis.models import Metadata
from lukhas_redis.ops.near import Held
from lukhas_redis.ops.space import Space, settle
from lukhas_redis.ops.writing import shard_keys, tenant_args
from lukhas_redis.scripts import Arg, load

_LEAST_BYTES = 16_384


def fold_when_due(space: Space, cid: str, held: Held, metadata: Metadata) -> Op[None]:
    """Fold what was just read when the segments have outgrown the body; a failure is not the reader's concern."""
    if metadata.segments < 2 or space.seen_dry or space.touch_denied:
        return
    appended = metadata.appended_bytes
    outgrown = appended > max(_LEAST_BYTES, metadata.raw_bytes - appended)
    if not outgrown and 2 * metadata.segments < space.settings.max_segments:
        return
    try:
        yield from fold(space, cid, held, metadata)
    except AccessDenied:
        space.touch_denied = True
    except (LukhasRedisError, Refused):
        return


def fold(space: Space, cid: str, held: Held, metadata: Metadata) -> Op[bool]:
    """Replace body and segments by one body; False when somebody wrote meanwhile.

    Raises:
        ContextTooLarge: What was appended has made the data larger than a context may be.
        Refused, LukhasRedisError: It was not folded.
    """
    raw = serialize(held.copy(space.limits), space.limits)
    compression = "aggressive" if metadata.level == 9 else "auto"
    encoded = yield from sealed(space, raw, cid, compression)
    reply = yield from settle(space, cid, lambda keys: _call(space, keys, cid, held, encoded))
    folded = bool(reply[2] == b"1")
    if folded and space.holds(metadata.context_type):
        space.near.put(cid, held.folded(raw))
    return folded


def sealed(space: Space, raw: bytes, cid: str, compression: str | int, serialize_ms: float = 0.0) -> Op[Encoded]:
    """Serialized data compressed and bound to an id, away from the event loop when that takes long."""
    step = partial(seal, raw, cid, compression=compression, limits=space.limits, serialize_ms=serialize_ms)
    return (yield from beside(step, len(raw)))


def _call(space: Space, keys: ShardKeys, cid: str, held: Held, encoded: Encoded) -> Call:
    script = load("fold")
    large = encoded.stored_bytes > space.settings.inline_body_bytes
    stage = keys.stage(space.mint() if large else "none")
    names = {"ctx": keys.ctx(cid), "body": keys.body(cid), "segs": keys.segs(cid), "stage": stage}
    args: dict[str, Arg] = {
        **tenant_args(space, keys, dry=False),
        "id": cid,
        "held": held.identity,
        "raw_bytes": encoded.raw_bytes,
        "bytes": encoded.stored_bytes,
        "level": encoded.level,
        "checksum": encoded.checksum,
        "digest": encoded.digest,
        "staged": int(large),
        "payload": header_of(encoded.stored) if large else encoded.stored,
    }
    words = script.pack({**names, **shard_keys(keys, "index", "sizes", "usage", "tombs", "flags", "shard")}, args)
    # Folding twice is folding once: the second finds nothing appended.
    return Call(script, keys.tag, words, request_id="fold", stage=Stage(stage, encoded.stored) if large else None)
