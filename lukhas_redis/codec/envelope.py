"""The 48 bytes in front of every stored body, and the two checksums.

What belongs here: the header's layout, sealing serialized bytes for one context id, unsealing them again.
What does not: how bytes are compressed (`compress`), what they mean (`serialize`).
Invariant: unsealed bytes are exactly those sealed, for this context id; the algorithm is fixed by the format version,
so stored bytes can never choose a weaker check.

| offset | bytes | holds |
|---|---|---|
| 0 | 4 | `LKHS` |
| 4 | 1 | format version, 1 |
| 5 | 1 | codec, 1 = msgpack |
| 6 | 1 | compression, 0 = none, 1 = LZ4 block |
| 7 | 1 | level, 0, 1, 6 or 9 |
| 8 | 8 | length of the serialized data, big-endian |
| 16 | 32 | digest: SHA-256 over domain tag, length and bytes of the context id, header bytes 0..15, stored payload |
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from struct import Struct
from time import perf_counter
from typing import Final, NamedTuple

from lukhas_redis.codec.compress import LEVELS, Level, choose, compress, decompress
from lukhas_redis.codec.limits import DEFAULT_LIMITS, CodecLimits
from lukhas_redis.codec.plain import too_large
from lukhas_redis.errors import ContextCorrupted, InvalidArgument, UnsupportedFormat

MAGIC: Final = b"LKHS"
FORMAT_VERSION: Final = 1
CODEC_MSGPACK: Final = 1
_FIELDS: Final = Struct(">4sBBBBQ")
FRONT_BYTES: Final = _FIELDS.size
HEADER_BYTES: Final = FRONT_BYTES + 32
_CODE_AT: Final = 6
_DOMAIN: Final = b"lukhas_redis/body/1\x00"
_ID_LENGTH: Final = Struct(">I")
_LEVELS: Final = {(level.code, level.number): level for level in LEVELS}


class Header(NamedTuple):
    """What the first 48 stored bytes say; not verified, see `unseal`. Lengths in bytes, digest as 64 hex digits."""

    format_version: int
    codec: int
    compression: str
    level: int
    raw_bytes: int
    digest: str


class Encoded(NamedTuple):
    """One encoded context: what to store, and the facts for its metadata.

    `checksum`: SHA-256 of the serialized bytes; `digest`: SHA-256 of the stored bytes bound to the context id; both as
    64 hex digits. `raw_bytes`, `stored_bytes`: before compression, and with header after it. `compression`, `level`:
    what was really used. `serialize_ms`, `compress_ms`: time spent, checksums not included.
    """

    stored: bytes
    checksum: str
    digest: str
    raw_bytes: int
    stored_bytes: int
    compression: str
    level: int
    serialize_ms: float
    compress_ms: float

    @property
    def compression_ratio(self) -> float:
        """Stored bytes (header included) over serialized bytes; over 1 when nothing was saved."""
        return self.stored_bytes / self.raw_bytes if self.raw_bytes else 1.0


def seal(
    raw: bytes,
    context_id: str,
    *,
    compression: str | int = "auto",
    limits: CodecLimits = DEFAULT_LIMITS,
    serialize_ms: float = 0.0,
) -> Encoded:
    """Return `raw` compressed, framed and bound to `context_id`; `serialize_ms` is passed on.

    Raises: ContextTooLarge, InvalidArgument (do not retry either).
    """
    if len(raw) > limits.max_context_size_bytes:
        raise too_large(len(raw), limits)
    identity = _identity(context_id)
    started = perf_counter()
    payload, level = compress(raw, choose(compression, len(raw)))
    compress_ms = (perf_counter() - started) * 1000
    front = front_of(MAGIC, level, len(raw))
    digest = digest_of(identity + front, payload)
    stored = b"".join((front, digest, payload))
    checksum, sizes = sha256(raw).hexdigest(), (len(raw), len(stored))
    return Encoded(stored, checksum, digest.hex(), *sizes, level.name, level.number, serialize_ms, compress_ms)


def front_of(magic: bytes, level: Level, raw_bytes: int) -> bytes:
    """Return the header without its digest: the first 16 bytes."""
    return _FIELDS.pack(magic, FORMAT_VERSION, CODEC_MSGPACK, level.code, level.number, raw_bytes)


def identity(domain: bytes, context_id: str) -> bytes:
    """Return what a digest begins with: for what it is made, and for which context; InvalidArgument for a bad id."""
    try:
        encoded = context_id.encode()
    except (AttributeError, UnicodeEncodeError) as error:
        raise InvalidArgument("context_id must be text without lone surrogates", argument="context_id") from error
    return domain + _ID_LENGTH.pack(len(encoded)) + encoded


def _identity(context_id: str) -> bytes:
    return identity(_DOMAIN, context_id)


def digest_of(head: bytes, *parts: bytes | memoryview) -> bytes:
    """Return the SHA-256 over all parts, without joining them."""
    digest = sha256(head)
    for part in parts:
        digest.update(part)
    return digest.digest()


def header_of(stored: bytes) -> bytes:
    """Return the first 48 bytes, which are what a script compares by GETRANGE."""
    return stored[:HEADER_BYTES]


def read_header(stored: bytes, magic: bytes = MAGIC) -> Header:
    """Return what the header says. Only its form is checked, so this costs the same for every size.

    Raises: UnsupportedFormat (retry with a newer release; leave the data alone); ContextCorrupted (do not retry).
    """
    if len(stored) < HEADER_BYTES:
        raise corrupted(f"{len(stored)} bytes are no envelope", "header")
    found, version, codec, code, number, raw_bytes = _FIELDS.unpack_from(stored)
    if found != magic or version == 0:
        raise corrupted("the envelope does not begin with its magic bytes", "header")
    if version > FORMAT_VERSION:
        raise UnsupportedFormat(
            f"stored in format {version}, this release reads up to format {FORMAT_VERSION}: upgrade; data left alone",
            found=version,
            supported=FORMAT_VERSION,
        )
    level = _LEVELS.get((code, number))
    if codec != CODEC_MSGPACK or level is None:
        raise corrupted(f"the header names codec {codec}, compression {code}, level {number}", "header")
    digest = stored[FRONT_BYTES:HEADER_BYTES].hex()
    return Header(version, codec, level.name, level.number, raw_bytes, digest)


def unseal(
    stored: bytes,
    context_id: str,
    *,
    checksum: str | None = None,
    digest: str | None = None,
    limits: CodecLimits = DEFAULT_LIMITS,
) -> bytes:
    """Return the serialized bytes, after every check that can be made on them.

    In this order: form of the header, lengths against the limit, digest (of the stored bytes for this context id; also
    equal to `digest` if given), decompression to exactly the declared length, `checksum` if given.
    Raises: ContextCorrupted (do not retry), UnsupportedFormat; the stored bytes are for the caller to keep.
    """
    header = read_header(stored)
    payload = payload_of(stored, header, limits)
    actual = digest_of(_identity(context_id) + stored[:FRONT_BYTES], payload).hex()
    if not same(actual, header.digest) or (digest is not None and not same(actual, digest)):
        raise corrupted("the digest of the stored bytes does not match for this context id", "digest")
    raw = inflated(stored, payload, header)
    if checksum is not None and not same(sha256(raw).hexdigest(), checksum):
        raise corrupted("the checksum of the serialized data does not match", "checksum")
    return raw


def payload_of(stored: bytes, header: Header, limits: CodecLimits) -> memoryview:
    """Return what follows the header, once its length and the declared one are within the limit; ContextCorrupted."""
    payload = memoryview(stored)[HEADER_BYTES:]
    limit = limits.max_context_size_bytes
    if header.raw_bytes > limit or len(payload) > limit:
        raise corrupted(f"the header declares {header.raw_bytes} bytes, the limit is {limit}", "size")
    return payload


def inflated(stored: bytes, payload: memoryview, header: Header) -> bytes:
    """Return exactly the declared number of bytes that `payload` stands for, or raise ContextCorrupted."""
    try:
        return decompress(payload, stored[_CODE_AT], header.raw_bytes)
    except ValueError as error:
        raise corrupted(str(error), "compression") from error


def same(actual: str, expected: str) -> bool:
    """Compare two digests in a time that does not depend on where they differ."""
    return expected.isascii() and compare_digest(actual, expected)


def corrupted(why: str, reason: str) -> ContextCorrupted:
    """Return the error for stored bytes; `reason` is the word it is counted under."""
    return ContextCorrupted(f"stored context is corrupted: {why}", reason=reason)
