"""Changes on their way after the body: sealed like it, and chained to what they change.

What belongs here: sealing the bytes of one change for one context id, unsealing them, the next link of the chain.
What does not: what a change is (`changes`), header and lengths, which are those of the body (`envelope`).
Invariant: unsealed bytes are exactly those sealed, for this context id; a body is never taken for a segment nor a
segment for a body. That no segment is missing, doubled or moved is what the chain says, and the caller compares it.

The header is that of `envelope` with the magic `LKSG`. The digest is SHA-256 over domain tag, length and bytes of the
context id, header bytes 0..15, SHA-256 of the serialized change, stored payload: both checksums in one, because a
segment has no metadata of its own to keep a second one in.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1, sha256
from typing import Final

from lukhas_redis.codec.compress import AUTO, choose, compress
from lukhas_redis.codec.envelope import (
    FRONT_BYTES,
    corrupted,
    digest_of,
    front_of,
    identity,
    inflated,
    payload_of,
    read_header,
    same,
)
from lukhas_redis.codec.limits import DEFAULT_LIMITS, CodecLimits
from lukhas_redis.codec.plain import too_large

MAGIC: Final = b"LKSG"
_DOMAIN: Final = b"lukhas_redis/segment/1\x00"


@dataclass(frozen=True, slots=True)
class Segment:
    """One sealed change: what to store, its digest as 64 hex digits, its bytes before compression."""

    stored: bytes
    digest: str
    raw_bytes: int


def seal_segment(raw: bytes, context_id: str, *, limits: CodecLimits = DEFAULT_LIMITS) -> Segment:
    """Return `raw` (see `pack_change`) compressed as "auto" does, framed and bound to `context_id`.

    Raises: ContextTooLarge, InvalidArgument (do not retry either).
    """
    if len(raw) > limits.max_context_size_bytes:
        raise too_large(len(raw), limits)
    payload, level = compress(raw, choose(AUTO, len(raw)))
    front = front_of(MAGIC, level, len(raw))
    digest = _digest(context_id, front, raw, payload)
    return Segment(b"".join((front, digest, payload)), digest.hex(), len(raw))


def unseal_segment(stored: bytes, context_id: str, limits: CodecLimits = DEFAULT_LIMITS) -> tuple[bytes, str]:
    """Return the serialized change and the digest of the segment, after every check that can be made on it alone.

    In this order: form of the header, lengths against the limit, decompression to exactly the declared length, digest.
    Raises: ContextCorrupted (do not retry), UnsupportedFormat; the stored bytes are for the caller to keep.
    """
    header = read_header(stored, MAGIC)
    payload = payload_of(stored, header, limits)
    raw = inflated(stored, payload, header)
    digest = _digest(context_id, stored[:FRONT_BYTES], raw, payload).hex()
    if not same(digest, header.digest):
        raise corrupted("the digest of a segment does not match for this context id", "digest")
    return raw, digest


def _digest(context_id: str, front: bytes, raw: bytes, payload: bytes | memoryview) -> bytes:
    return digest_of(identity(_DOMAIN, context_id) + front + sha256(raw).digest(), payload)


def chained(chain: str, digest: str) -> str:
    """Return the chain (40 hex digits) after a segment with `digest` was added to what `chain` stood for.

    Over `chain` as text and `digest` as its 32 bytes, which Lua cuts out of the header: `append.lua` does the same.
    SHA-1, because it is what Lua has (`redis.sha1hex`). It only binds digests that are SHA-256 themselves together:
    it finds lost, doubled and moved segments, and is no proof against whoever can write to Redis.
    """
    return sha1(chain.encode() + bytes.fromhex(digest), usedforsecurity=False).hexdigest()
