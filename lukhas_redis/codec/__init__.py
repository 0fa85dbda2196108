"""Context data as checked, self-describing bytes, and back.

What belongs here: the order of the steps, written once. What does not: any step itself (the modules beside this one),
keys, scripts, Redis.
Invariant: `decode(encode(data, id).stored, id, ...) == data` with equal types, up to the conversions of `convert`; for
any other id or any changed byte it raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from time import perf_counter
from typing import Any

from lukhas_redis.codec.changes import (
    Append,
    Change,
    Patch,
    applied,
    apply,
    changes_shape,
    pack_change,
    unpack_change,
)
from lukhas_redis.codec.compress import choose
from lukhas_redis.codec.envelope import HEADER_BYTES, Encoded, Header, header_of, read_header, seal, unseal
from lukhas_redis.codec.growing import grow
from lukhas_redis.codec.limits import DEFAULT_LIMITS, CodecLimits
from lukhas_redis.codec.paths import Path, checked_path, list_at, resolve
from lukhas_redis.codec.segments import Segment, chained, seal_segment, unseal_segment
from lukhas_redis.codec.serialize import deserialize, serialize
from lukhas_redis.codec.views import ReadOnlyDict, ReadOnlyList, ReadOnlySet, read_only, view_of

__all__ = [
    "DEFAULT_LIMITS",
    "HEADER_BYTES",
    "Append",
    "Change",
    "CodecLimits",
    "Encoded",
    "Header",
    "Patch",
    "Path",
    "ReadOnlyDict",
    "ReadOnlyList",
    "ReadOnlySet",
    "Segment",
    "applied",
    "apply",
    "chained",
    "changes_shape",
    "checked_path",
    "choose",
    "decode",
    "deserialize",
    "encode",
    "grow",
    "header_of",
    "list_at",
    "pack_change",
    "read_header",
    "read_only",
    "resolve",
    "seal",
    "seal_segment",
    "serialize",
    "serialize_timed",
    "unpack_change",
    "unseal",
    "unseal_segment",
    "view_of",
]


def encode(
    data: Mapping[Any, Any],
    context_id: str,
    *,
    compression: str | int = "auto",
    limits: CodecLimits = DEFAULT_LIMITS,
) -> Encoded:
    """Return `data` serialized, compressed and bound to `context_id`.

    `compression`: "auto", "none", "light", "standard", "aggressive" or 0, 1, 6, 9. `data` is not changed.
    Raises: SerializationError (path in `fields["path"]`), ContextTooLarge, InvalidArgument; do not retry any of them.
    """
    raw, serialize_ms = serialize_timed(data, limits)
    return seal(raw, context_id, compression=compression, limits=limits, serialize_ms=serialize_ms)


def serialize_timed(data: Mapping[Any, Any], limits: CodecLimits = DEFAULT_LIMITS) -> tuple[bytes, float]:
    """Return `data` serialized, and how many milliseconds that took; what `seal` needs of it.

    Raises: SerializationError (path in `fields["path"]`), ContextTooLarge; do not retry either.
    """
    started = perf_counter()
    raw = serialize(data, limits)
    return raw, (perf_counter() - started) * 1000


def decode(
    stored: bytes,
    context_id: str,
    *,
    checksum: str | None,
    digest: str | None,
    limits: CodecLimits = DEFAULT_LIMITS,
) -> dict[str, Any]:
    """Return the data of `encode`; `checksum` and `digest` are those of the metadata, None when there are none.

    Both checksums are verified before anything is unpacked. Never returns other data than was encoded for this id.
    Raises: ContextCorrupted (do not retry), UnsupportedFormat (retry with a newer release, or with tzdata installed);
    after both the stored bytes are for the caller to keep.
    """
    return deserialize(unseal(stored, context_id, checksum=checksum, digest=digest, limits=limits), limits)
