"""The structure of a context: how deep it is, how many items it has, about how large it is.

What belongs here: measuring data before it is packed, packed bytes before they are unpacked, and data after that.
What does not: naming the place of a problem (`plain`), the limits themselves (`limits`).
Invariant: nothing here builds a value, so refusing a bomb costs no more memory than its bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from lukhas_redis.codec.limits import CodecLimits
from lukhas_redis.codec.scan import Refused, scan
from lukhas_redis.codec.values import ATOMS, CONTAINERS, KEYS, SCALARS, SIZED, NotPlain

# A list at least this long is judged by the set of its element types, which is faster than one by one.
_LONG: Final = 16
# Any bytes below these two bounds unpack into less than 46 MB (40 bytes for a byte that is a small negative int,
# 240 for an empty set), so they need no look ahead.
_HARMLESS_BYTES: Final = 1 << 20
_HARMLESS_HEADS: Final = 32 * 1024

_HEADS: Final = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF, *range(0xC7, 0xCA), *range(0xD4, 0xD9)])
_NOT_HEADS: Final = bytes(sorted(set(range(256)) - set(_HEADS)))
_WIDE: Final = (0xDC, 0xDD, 0xDE, 0xDF)
_EXT8: Final = 0xC7
_NIBBLE: Final = bytes(byte & 15 if 0x80 <= byte < 0xA0 else 0 for byte in range(256))


def fits(data: dict[Any, Any] | list[Any], limits: CodecLimits) -> bool:  # noqa: C901 - one loop, see below
    """Return True when `data` holds only storable types, is within depth and items, and may be within size.

    False, or NotPlain for a dict key, means: look again with `plain`, which converts or names the place. Text counts
    one byte per character here, so the real size is known after packing only; this bounds what packing may allocate.
    """
    items = size = 0
    level: list[Any] = [data]
    for _ in range(limits.max_depth):
        inner: list[Any] = []
        for container in level:
            kind = type(container)
            length = len(container)
            items += length
            if kind is dict:
                size += _keys_size(container, inner)
                values = container.values()
            else:
                items += kind is not list
                values = container
                if length >= _LONG and (alike := _alike_size(container)) >= 0:
                    size += alike
                    values = ()
            for value in values:  # in line, because this is a third of the price of encoding a small context
                kind = type(value)
                if kind in SIZED:
                    size += len(value)
                elif kind in CONTAINERS:
                    inner.append(value)
                elif kind not in ATOMS:
                    return False
            if items > limits.max_items or size > limits.max_context_size_bytes:
                return False
        if not inner:
            return True
        level = inner
    return False


def _keys_size(container: dict[Any, Any], inner: list[Any]) -> int:
    """Return the length of all keys, and put containers among them into `inner`."""
    try:
        return len("".join(container))  # the fastest check that all of them are text
    except TypeError:
        if not all(type(key) in KEYS for key in container):
            raise NotPlain from None  # msgpack's own ExtType would pass the packer and forge a value
        inner.extend(key for key in container if type(key) in CONTAINERS)
        return sum(len(key) for key in container if type(key) in SIZED)


def _alike_size(container: Any) -> int:
    """Return the bytes of text in a long collection that is all text or all numbers, -1 when it is neither."""
    kinds = set(map(type, container))
    if kinds == {str}:
        return sum(map(len, container))
    return 0 if kinds <= SCALARS else -1


def check_packed(raw: bytes, limits: CodecLimits) -> bool:
    """Refuse packed bytes that would unpack into more than the limits allow; return True when depth is settled too.

    Raises: Refused (do not retry): the bytes hold too many items, are too deep or are no msgpack.
    """
    heads = raw.translate(None, _NOT_HEADS)
    harmless = len(heads) <= _HARMLESS_HEADS and len(raw) <= min(limits.max_items, _HARMLESS_BYTES)
    if not harmless and _most_items(raw, heads) > limits.max_items:
        scan(raw, max_items=limits.max_items, max_depth=limits.max_depth)
        return True
    return len(heads) <= limits.max_depth


def is_shallow(raw: bytes, limits: CodecLimits) -> bool:
    """Return True when packed bytes are surely within the depth: not even all that may open a container is too much."""
    return len(raw.translate(None, _NOT_HEADS)) <= limits.max_depth


def _most_items(raw: bytes, heads: bytes) -> int:
    # Every byte that may open a container is taken for one. Exact for ASCII text, far too high for binary data.
    most = sum(heads.translate(_NIBBLE))
    for head in _WIDE:
        width = 2 if head in (0xDC, 0xDE) else 4
        for at in _positions(raw, head):
            most += int.from_bytes(raw[at + 1 : at + 1 + width], "big")
            if most > len(raw):
                return most
    return most


def may_have_marks(raw: bytes) -> bool:
    """Return False when no array in `raw` can be a tuple or set, so that the hook, a call per array, is not needed."""
    return _EXT8 in raw and any(raw[at + 1 : at + 2] == b"\x00" for at in _positions(raw, _EXT8))


def _positions(raw: bytes, byte: int) -> Iterator[int]:
    # Searching for one byte is a hundred times faster than for two.
    at = raw.find(byte)
    while at >= 0:
        yield at
        at = raw.find(byte, at + 1)


def check_depth(data: Any, limits: CodecLimits, *, keys: bool, kinds: frozenset[type] = CONTAINERS) -> None:
    """Refuse unpacked data that is deeper than the limit; `keys`: containers may be among the dict keys.

    `kinds`: the types of its containers, those that can be inside a key included.
    Raises: Refused (do not retry).
    """
    level = [data]
    for _ in range(limits.max_depth):
        nested = [part for part in level if isinstance(part, dict)] if keys else []
        level = [
            value
            for container in level
            for value in (container.values() if isinstance(container, dict) else container)
            if type(value) in kinds
        ]
        level += [key for part in nested for key in part if type(key) in kinds]
        if not level:
            return
    raise Refused(f"nested deeper than {limits.max_depth} levels")
