"""An exact walk over msgpack bytes that builds nothing.

What belongs here: counting the items and the depth of packed data whose shape is in doubt. What does not: deciding
when that is worth its price, about 0.1 us per value (`shape`).
Invariant: bytes that pass are one complete msgpack value and unpack into at most `max_items` items.
"""

from __future__ import annotations

from typing import Final

_FLOAT64: Final = 0xCB
_MANY_FLOATS: Final = 16


class Refused(Exception):
    """Packed or unpacked data is outside the limits, or is no msgpack; the text says which."""


def _fixed_lengths() -> bytes:
    # Length of the whole value for each first byte that alone decides it; 0 for the others.
    lengths = dict.fromkeys((*range(0x80), 0xC0, 0xC2, 0xC3, *range(0xE0, 0x100)), 1)
    lengths |= {byte: byte - 0xA0 + 1 for byte in range(0xA0, 0xC0)}
    lengths |= {0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9}
    lengths |= {0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18}
    return bytes(lengths.get(byte, 0) for byte in range(256))


_FIXED: Final = _fixed_lengths()
# first byte -> (bytes of the length field, bytes between it and the data)
_BIN: Final = {0xC4: (1, 0), 0xC5: (2, 0), 0xC6: (4, 0)}
_EXT: Final = {0xC7: (1, 1), 0xC8: (2, 1), 0xC9: (4, 1)}
_STR: Final = {0xD9: (1, 0), 0xDA: (2, 0), 0xDB: (4, 0)}
_COUNTED: Final = _BIN | _EXT | _STR
_WIDE_ARRAYS: Final = {0xDC: 2, 0xDD: 4}
_WIDE_MAPS: Final = {0xDE: 2, 0xDF: 4}


def scan(raw: bytes, *, max_items: int, max_depth: int) -> None:
    """Return when `raw` is one msgpack value within the limits.

    Raises: Refused (do not retry): too many items, too deep, cut short, or no msgpack.
    """
    at, left, items = 0, 1, 0
    outer: list[int] = []  # what is left to read in each container around the current one
    fixed = _FIXED
    try:
        while left or outer:
            if not left:
                left = outer.pop()
                continue
            left -= 1
            step = fixed[raw[at]]
            if not step:
                step, count, is_map = _open(raw, at)
                if count >= 0:
                    items += count
                    outer.append(left)
                    left = 2 * count if is_map else count
                    if items > max_items or len(outer) > max_depth:
                        raise Refused(f"more than {max_items} items or nested deeper than {max_depth} levels")
                    floats = 0 if is_map else _floats(raw, at + step, count)
                    left -= floats
                    step += 9 * floats
            at += step
    except IndexError:
        raise Refused("cut short") from None
    if at != len(raw):
        raise Refused("cut short, or followed by further bytes")


def _open(raw: bytes, at: int) -> tuple[int, int, bool]:
    """Return the bytes to skip, the number of items (-1: no container), and whether it is a map."""
    head = raw[at]
    if head < 0xA0:
        return 1, head & 15, head < 0x90
    if head in _COUNTED:
        width, gap = _COUNTED[head]
        return 1 + width + gap + _number(raw, at + 1, width), -1, False
    width = _WIDE_ARRAYS.get(head) or _WIDE_MAPS.get(head, 0)
    if not width:
        raise Refused("no msgpack")
    return 1 + width, _number(raw, at + 1, width), head in _WIDE_MAPS


def _number(raw: bytes, at: int, width: int) -> int:
    return int.from_bytes(raw[at : at + width], "big")


def _floats(raw: bytes, at: int, count: int) -> int:
    # Embeddings are most of the large numeric contexts: a whole list of floats is told by its strided type bytes.
    if count < _MANY_FLOATS or at >= len(raw) or raw[at] != _FLOAT64:
        return 0
    kinds = raw[at : at + 9 * count : 9]
    return count if len(kinds) == count and kinds.count(_FLOAT64) == count else 0
