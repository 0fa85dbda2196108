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

from lukhas_redis.codec.envelope import HEADER_BYTES, Encoded, Header, header_of, read_header, seal, unseal
from lukhas_redis.codec.limits import DEFAULT_LIMITS, CodecLimits
from lukhas_redis.codec.serialize import deserialize, serialize

__all__ = [
    "DEFAULT_LIMITS",
    "HEADER_BYTES",
    "CodecLimits",
    "Encoded",
    "Header",
    "decode",
    "deserialize",
    "encode",
    "header_of",
    "read_header",
    "seal",
    "serialize",
    "unseal",
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
    started = perf_counter()
    raw = serialize(data, limits)
    serialize_ms = (perf_counter() - started) * 1000
    return seal(raw, context_id, compression=compression, limits=limits, serialize_ms=serialize_ms)


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
