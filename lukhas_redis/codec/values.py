"""The value types a context may hold, and the msgpack extension each one travels as.

What belongs here: one table from Python type to bytes and one back. What does not: conversions of other types into
these (`plain`), structure and limits (`shape`).
Invariant: a number of `Tag` never changes its meaning; a new type gets a new number and a new format version.

| tag | type | bytes |
|---|---|---|
| 1, 2, 3 | tuple, set, frozenset | empty; the first element of a msgpack array that holds the elements |
| 16 | int beyond 64 bit | two's complement, big-endian |
| 17 | Decimal | its text |
| 18 | UUID | 16 bytes |
| 19..22 | datetime, date, time, timedelta | see `moments` |

A tuple is an array with a mark and not an extension around packed bytes, because then nesting costs no copy per level
and the depth of the data is the depth of the msgpack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any, ClassVar, Final
from uuid import UUID

from msgpack import ExtType, Packer

from lukhas_redis.codec.moments import (
    pack_date,
    pack_datetime,
    pack_time,
    pack_timedelta,
    unpack_date,
    unpack_datetime,
    unpack_time,
    unpack_timedelta,
)


class Tag(IntEnum):
    """Extension numbers of format 1."""

    TUPLE = 1
    SET = 2
    FROZENSET = 3
    BIG_INT = 16
    DECIMAL = 17
    UUID = 18
    DATETIME = 19
    DATE = 20
    TIME = 21
    TIMEDELTA = 22


class NotPlain(Exception):
    """The packer met a value that has to be converted first (see `plain`)."""


SIZED: Final = frozenset({str, bytes, bytearray})
SCALARS: Final = frozenset({type(None), bool, int, float})
CONTAINERS: Final = frozenset({dict, list, tuple, set, frozenset})

_MARKS: Final = {tag: ExtType(tag, b"") for tag in (Tag.TUPLE, Tag.SET, Tag.FROZENSET)}


def _pack_big_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _unpack_big_int(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _unpack_decimal(data: bytes) -> Decimal:
    return Decimal(data.decode("ascii"))


def _unpack_uuid(data: bytes) -> UUID:
    return UUID(bytes=data)


# type -> (tag, to bytes). `int` is here for what does not fit 64 bit; the packer asks only then.
_LEAVES: Final[dict[type, tuple[Tag, Callable[[Any], bytes]]]] = {
    int: (Tag.BIG_INT, _pack_big_int),
    Decimal: (Tag.DECIMAL, lambda value: str(value).encode("ascii")),
    UUID: (Tag.UUID, lambda value: value.bytes),
    datetime: (Tag.DATETIME, pack_datetime),
    date: (Tag.DATE, pack_date),
    time: (Tag.TIME, pack_time),
    timedelta: (Tag.TIMEDELTA, pack_timedelta),
}
EXTENDED: Final = frozenset(_LEAVES) - {int}
ATOMS: Final = SCALARS | EXTENDED
KEYS: Final = ATOMS | SIZED | CONTAINERS

_READERS: Final[dict[int, Callable[[bytes], Any]]] = {
    Tag.BIG_INT: _unpack_big_int,
    Tag.DECIMAL: _unpack_decimal,
    Tag.UUID: _unpack_uuid,
    Tag.DATETIME: unpack_datetime,
    Tag.DATE: unpack_date,
    Tag.TIME: unpack_time,
    Tag.TIMEDELTA: unpack_timedelta,
}
_COLLECTIONS: Final[dict[int, Callable[[Iterable[Any]], Any]]] = {
    Tag.TUPLE: tuple,
    Tag.SET: set,
    Tag.FROZENSET: frozenset,
}


def pack(data: Any) -> bytes:
    """Return the msgpack bytes of plain data; NotPlain, UnicodeEncodeError and others when it is not plain."""
    # A new packer per call: one must not be shared between threads, and making it costs 0.2 us.
    packed: bytes = Packer(default=to_wire, strict_types=True, use_bin_type=True).pack(data)
    return packed


def to_wire(value: Any) -> ExtType | list[Any]:
    """Return what the packer can write for a value it does not know; NotPlain when it must be converted first."""
    kind = type(value)
    leaf = _LEAVES.get(kind)
    if leaf is not None:
        return ExtType(leaf[0], leaf[1](value))
    if kind is tuple:
        return [_MARKS[Tag.TUPLE], *value]
    if kind is set or kind is frozenset:
        return [_MARKS[Tag.SET if kind is set else Tag.FROZENSET], *_in_order(value)]
    raise NotPlain


def _in_order(elements: set[Any] | frozenset[Any]) -> list[Any]:
    # The same set should give the same bytes in every process, or a repeated request would look like another one.
    # By repr, not by packed bytes: packing twice per level costs 2**depth for nested sets.
    if set(map(type, elements)) == {str}:
        return sorted(elements)
    try:
        return sorted(elements, key=repr)
    except ValueError:  # Python refuses to print very long ints; their order is then left as it is
        return list(elements)


class _Mark:
    """A collection mark that was read but not yet used up by the array it opens."""

    __slots__ = ("tag",)

    def __init__(self, tag: int) -> None:
        self.tag = tag


class Reader:
    """The two hooks of one unpacking: extensions, and arrays that may open with a collection mark."""

    __slots__ = ("_open_marks",)
    containers: ClassVar[frozenset[type]] = CONTAINERS  # what it makes

    def __init__(self) -> None:
        self._open_marks = 0

    def hooks(self, *, marks: bool) -> dict[str, Callable[[Any], Any]]:
        """Return the unpacker's hooks for containers; `marks`: the bytes may hold collection marks."""
        return {"list_hook": self.array} if marks else {}

    def extension(self, tag: int, data: bytes) -> Any:
        """Return the value of an extension, or a mark for the array around it; ValueError for an unknown one."""
        read = _READERS.get(tag)
        if read is not None:
            return read(data)
        if tag not in _COLLECTIONS or data:
            raise ValueError(f"unknown extension {tag}")
        self._open_marks += 1
        return _Mark(tag)

    def array(self, elements: list[Any]) -> Any:
        """Return the tuple, set or frozenset that a marked array stands for, or the list itself."""
        if not elements or type(elements[0]) is not _Mark:
            return elements
        self._open_marks -= 1
        return _COLLECTIONS[elements[0].tag](elements[1:])

    def finish(self) -> None:
        """Raise ValueError when a mark stood anywhere but at the head of an array: only forged data has that."""
        if self._open_marks:
            raise ValueError("collection mark out of place")
