"""LZ4 at the three levels of the product, and the choice among them.

What belongs here: level names and numbers, the `auto` rule, the cheap look that keeps incompressible data raw.
What does not: the header that records the choice (`envelope`).
Invariant: `decompress` returns exactly the declared number of bytes or raises, and allocates no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import lz4.block

from lukhas_redis.errors import InvalidArgument

AUTO: Final = "auto"
_AUTO_NONE_BELOW_BYTES: Final = 500
_AUTO_LIGHT_UP_TO_BYTES: Final = 5_120
_KEEP_RAW_ABOVE: Final = 0.95
# Data up to this size is simply compressed; larger data is judged by slices of it first.
_SAMPLE_FROM_BYTES: Final = 256 * 1024
_SLICES: Final = 8
_SLICE_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class Level:
    """One compression level: its public name and number, its code in the header, what LZ4 is told."""

    name: str
    number: int
    code: int
    options: dict[str, Any]


NONE: Final = Level("none", 0, 0, {})
LIGHT: Final = Level("light", 1, 1, {"mode": "fast", "acceleration": 2})
STANDARD: Final = Level("standard", 6, 1, {"mode": "default"})
AGGRESSIVE: Final = Level("aggressive", 9, 1, {"mode": "high_compression", "compression": 9})
LEVELS: Final = (NONE, LIGHT, STANDARD, AGGRESSIVE)
_BY_NAME: Final[dict[str | int, Level]] = {
    **{level.name: level for level in LEVELS},
    **{level.number: level for level in LEVELS},
}


def choose(compression: str | int, size_bytes: int) -> Level:
    """Return the level for `compression` ("auto", a level's name, or 0, 1, 6, 9) and data of `size_bytes`.

    Raises: InvalidArgument (do not retry) for any other value.
    """
    if compression == AUTO:
        if size_bytes < _AUTO_NONE_BELOW_BYTES:
            return NONE
        return LIGHT if size_bytes <= _AUTO_LIGHT_UP_TO_BYTES else STANDARD
    known = type(compression) in (str, int) and compression in _BY_NAME
    if not known:
        names = ", ".join(level.name for level in LEVELS)
        raise InvalidArgument(f"compression must be auto, {names} or 0, 1, 6, 9, got {compression!r}")
    return _BY_NAME[compression]


def compress(raw: bytes, level: Level) -> tuple[bytes, Level]:
    """Return the bytes to store and the level really used: `raw` itself when they would be over 0.95 of it.

    Large data is first judged by eight slices spread over it. One slice in eight that shrinks by half is enough to go
    on, so an incompressible head does not decide. What repeats only over distances longer than a slice (one image
    embedded twice) is missed and stored raw.
    """
    if level is NONE or not _promising(raw):
        return raw, NONE
    packed: bytes = lz4.block.compress(raw, store_size=False, **level.options)
    return (packed, level) if len(packed) <= _KEEP_RAW_ABOVE * len(raw) else (raw, NONE)


def _promising(raw: bytes) -> bool:
    if len(raw) < _SAMPLE_FROM_BYTES:
        return True
    stride = (len(raw) - _SLICE_BYTES) // (_SLICES - 1)
    packed = sum(_packed_size(raw[at : at + _SLICE_BYTES]) for at in range(0, stride * _SLICES, stride))
    return packed <= _KEEP_RAW_ABOVE * _SLICES * _SLICE_BYTES


def _packed_size(part: bytes) -> int:
    return len(lz4.block.compress(part, store_size=False))


def decompress(packed: memoryview, code: int, raw_bytes: int) -> bytes:
    """Return the `raw_bytes` bytes that `packed` stands for. Check `raw_bytes` against the limit before.

    Raises: ValueError when the bytes are no LZ4 block of that size.
    """
    if code == NONE.code:
        raw = bytes(packed)
    else:
        try:
            raw = lz4.block.decompress(packed, uncompressed_size=raw_bytes)
        except lz4.block.LZ4BlockError as error:
            raise ValueError("the compressed bytes are damaged") from error
    if len(raw) != raw_bytes:
        raise ValueError(f"{len(raw)} bytes after decompression, the header says {raw_bytes}")
    return raw
