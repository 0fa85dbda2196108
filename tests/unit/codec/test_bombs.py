"""Forged bytes with valid checksums: refused, and cheaply.

An attacker who can write to Redis can compute the digests, so they do not help here; these tests seal every forgery.
"""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import lz4.block
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lukhas_redis.codec import CodecLimits, deserialize, encode, seal, serialize, unseal
from lukhas_redis.codec.envelope import _identity, digest_of
from lukhas_redis.codec.scan import Refused, scan
from lukhas_redis.errors import (
    ContextCorrupted,
    ContextTooLarge,
    LukhasRedisError,
    SerializationError,
    UnsupportedFormat,
)
from tests.unit.codec.storable import CONTEXT_ID, contexts, count_items, depth_of, examples

TEN_MB = 10_485_760
ALLOWED_EXTRA_BYTES = 50 * 1024 * 1024


def _extra_bytes(refused: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ContextCorrupted):
            refused()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _one_extension(tag: int, payload: bytes) -> bytes:
    return b"\x81\xa1a\xc8" + struct.pack(">HB", len(payload), tag) + payload


def _in_list(element: bytes, size: int) -> bytes:
    count = (size - 9) // len(element)
    return b"\x81\xa1a\xdd" + struct.pack(">I", count) + element * count


def _forged(payload: bytes, code: int, number: int, raw_bytes: int) -> bytes:
    front = struct.pack(">4sBBBBQ", b"LKHS", 1, 1, code, number, raw_bytes)
    return front + digest_of(_identity(CONTEXT_ID), front, payload) + payload


FLOODS = {
    "empty dicts": _in_list(b"\x80", TEN_MB),
    "empty lists": _in_list(b"\x90", TEN_MB),
    "dicts of one": _in_list(b"\x81\xa0\xc0", TEN_MB),
    "empty sets": _in_list(b"\x91\xc7\x00\x02", TEN_MB),
    "empty tuples": _in_list(b"\x91\xc7\x00\x01", TEN_MB),
    "small negative ints": _in_list(b"\xe0", TEN_MB),
    "short strings": _in_list(b"\xa2ab", TEN_MB),
    "dates": _in_list(b"\xd6\x14\x07\xe8\x01\x01", TEN_MB),
    "lists in lists": b"\x81\xa1a" + b"\xdd\x00\x10\x00\x00" * 200_000,
    "wide lists in lists": b"\x81\xa1a" + b"\xdc\xff\xff" * 3_000_000,
    "100,000 levels": b"\x81\xa1a" + b"\x91" * 100_000 + b"\xc0",
    "100,000 levels of dicts": b"\x81\xa1a" + b"\x81\xa0" * 100_000 + b"\xc0",
    "levels inside keys": b"\x81" * 100_000 + b"\xc0",
}


@pytest.mark.parametrize("raw", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_is_refused_within_50_mib(raw: bytes) -> None:
    """Ten megabytes of tiny values, or of nesting, are ContextCorrupted and cost less than 50 MiB on the way."""
    assert _extra_bytes(lambda: deserialize(raw)) < ALLOWED_EXTRA_BYTES


def test_a_compressed_flood_is_refused_within_50_mib() -> None:
    """The same through the envelope: 40 kB stored that become 10 MB of empty dicts."""
    stored = seal(FLOODS["empty dicts"], CONTEXT_ID).stored
    assert len(stored) < 50_000
    assert _extra_bytes(lambda: deserialize(unseal(stored, CONTEXT_ID))) < ALLOWED_EXTRA_BYTES


def test_a_flood_is_refused_on_the_way_in() -> None:
    """What would be refused on reading cannot be written: a list of two million empty dicts names max_items."""
    with pytest.raises(ContextTooLarge, match="max_items"):
        serialize({"a": [{}] * 2_000_000})


@pytest.mark.parametrize("declared", [TEN_MB + 1, 2**31, 2**40, 2**64 - 1])
def test_a_declared_length_over_the_limit_is_refused_before_decompression(declared: int) -> None:
    """A one-gigabyte LZ4 bomb, or a length that only claims so, costs nothing."""
    bomb = lz4.block.compress(bytes(20_000_000), store_size=False)
    assert _extra_bytes(lambda: unseal(_forged(bomb, 1, 6, declared), CONTEXT_ID)) < 2_000_000


@pytest.mark.parametrize("declared", [0, 1, 1_000, TEN_MB])
def test_a_bomb_behind_an_allowed_length_stops_at_that_length(declared: int) -> None:
    """20 MB behind a smaller declared length is refused, having allocated that length at most."""
    bomb = lz4.block.compress(bytes(20_000_000), store_size=False)
    assert _extra_bytes(lambda: unseal(_forged(bomb, 1, 6, declared), CONTEXT_ID)) < 1.2 * TEN_MB


@pytest.mark.parametrize("declared", [0, 3, 5, TEN_MB])
def test_a_forged_length_of_raw_bytes_is_refused(declared: int) -> None:
    """A raw payload must have exactly the declared length."""
    with pytest.raises(ContextCorrupted, match="header says"):
        unseal(_forged(b"\x81\xa1a\x01", 0, 0, declared), CONTEXT_ID)


FORGED = {
    "nothing": b"",
    "no dict": b"\x90",
    "two values": b"\x80\x80",
    "cut short": b"\x81\xa1a",
    "reserved byte": b"\x81\xa1a\xc1",
    "string of 4 GB": b"\x81\xa1a\xdb\xff\xff\xff\xff",
    "bytes of 4 GB": b"\x81\xa1a\xc6\xff\xff\xff\xff",
    "list of 4 G": b"\x81\xa1a\xdd\xff\xff\xff\xff",
    "dict of 4 G": b"\xdf\xff\xff\xff\xff",
    "extension of 4 GB": b"\x81\xa1a\xc9\xff\xff\xff\xff\x01",
    "text that is no UTF-8": b"\x81\xa1a\xa1\xff",
    "surrogate in UTF-8": b"\x81\xa1a\xa3\xed\xa0\x80",
    "list as key": b"\x81\x90\x01",
    "dict as key": b"\x81\x80\x01",
    "set as key": b"\x81\x91\xc7\x00\x02\x01",
    "list in set": b"\x81\xa1a\x92\xc7\x00\x02\x90",
    "mark alone": b"\x81\xa1a\xc7\x00\x01",
    "mark as key": b"\x81\xc7\x00\x01\x01",
    "mark not at the head": b"\x81\xa1a\x92\x01\xc7\x00\x01",
    "two marks": b"\x81\xa1a\x92\xc7\x00\x01\xc7\x00\x01",
    "mark with data": b"\x81\xa1a\x91\xd4\x01\x00",
    "mark in another width": b"\x81\xa1a\x91\xc8\x00\x00\x01",
    "unknown extension": b"\x81\xa1a\xd4\x63\x00",
    "decimal that is none": b"\x81\xa1a\xd4\x11x",
    "short uuid": b"\x81\xa1a\xd4\x12x",
    "date of month 13": b"\x81\xa1a\xd6\x14\x07\xe8\x0d\x01",
    "datetime of 1 byte": b"\x81\xa1a\xd4\x13x",
    "51 levels": b"\x81\xa1a" + b"\x91" * 50 + b"\xc0",
}


@pytest.mark.parametrize("raw", FORGED.values(), ids=FORGED.keys())
def test_forged_data_is_corrupted(raw: bytes) -> None:
    """Bytes that `serialize` never writes are ContextCorrupted with the reason "undecodable"."""
    with pytest.raises(ContextCorrupted) as caught:
        deserialize(raw)
    assert caught.value.fields["reason"] == "undecodable"


@pytest.mark.parametrize("key", [b"../../etc/passwd", b"/etc/passwd", b"a" * 300, b"\xff", b"", b"Europe//X"], ids=repr)
def test_a_forged_zone_key_never_becomes_a_path(key: bytes) -> None:
    """A zone key that is no IANA name is refused before anything is looked up."""
    payload = struct.pack(">HBBBBBIB", 2024, 1, 1, 0, 0, 0, 0, 0) + b"Z" + key
    with pytest.raises(ContextCorrupted):
        deserialize(_one_extension(19, payload))


@pytest.mark.parametrize("key", [b"Atlantis/Capital", b"Europe"], ids=repr)
def test_an_unknown_zone_says_what_to_install(key: bytes) -> None:
    """A well-formed zone that this machine lacks is UnsupportedFormat: the data is sound, the machine is not ready."""
    payload = struct.pack(">HBBBBBIB", 2024, 1, 1, 0, 0, 0, 0, 0) + b"Z" + key
    with pytest.raises(UnsupportedFormat, match="install tzdata"):
        deserialize(_one_extension(19, payload))


def test_a_msgpack_timestamp_is_read_as_a_float() -> None:
    """The one foreign extension that the library reads by itself cannot put a foreign type into the data."""
    assert deserialize(b"\x81\xa1a\xd6\xff\x00\x00\x00\x05") == {"a": 5.0}


@examples(500, 50_000)
@given(st.one_of(st.binary(max_size=120), st.binary(max_size=60).map(lambda tail: b"\x83\xa1a\x93\xc7\x00\x01" + tail)))
def test_fuzzed_bytes_are_data_or_our_error(raw: bytes) -> None:
    """Any bytes either are a dict, which then serializes again, or raise one of our errors."""
    try:
        data = deserialize(raw)
    except (ContextCorrupted, UnsupportedFormat):
        return
    assert type(data) is dict
    serialize(data)


@examples(300, 5_000)
@given(contexts, st.integers(0, 10_000), st.integers(0, 255))
def test_one_changed_byte_is_data_or_our_error(data: dict[Any, Any], at: int, byte: int) -> None:
    """A serialized context with one byte changed raises nothing but our errors (no checksum is looked at here)."""
    raw = bytearray(serialize(data))
    raw[at % len(raw)] = byte
    try:
        deserialize(bytes(raw))
    except LukhasRedisError:
        return


@examples(150, 5_000)
@given(contexts)
def test_both_ways_count_alike(data: dict[Any, Any]) -> None:
    """Limits that are just met are met on the way in and on the way out; one less is refused on both."""
    items, depth = count_items(data), depth_of(data)
    exact = CodecLimits(max_items=max(items, 1), max_depth=depth)
    raw = serialize(data, exact)
    deserialize(raw, exact)
    scan(raw, max_items=items, max_depth=depth)
    if items > 1:
        with pytest.raises(ContextTooLarge):
            serialize(data, CodecLimits(max_items=items - 1))
        with pytest.raises(ContextCorrupted):
            deserialize(raw, CodecLimits(max_items=items - 1))
    if depth > 1:
        with pytest.raises(SerializationError):
            serialize(data, CodecLimits(max_depth=depth - 1))
        with pytest.raises(ContextCorrupted):
            deserialize(raw, CodecLimits(max_depth=depth - 1))


@pytest.mark.parametrize(
    "cut", [b"\x81\xa1a\x92\xcb", b"\xdd\x00\x00\x00\x40" + b"\xcb" * 30, b"\xc1", b"\x80\x00"], ids=repr
)
def test_the_scan_refuses_what_is_not_whole(cut: bytes) -> None:
    """The exact scan accepts only one complete msgpack value."""
    with pytest.raises(Refused):
        scan(cut, max_items=100, max_depth=10)


@pytest.mark.parametrize(
    "data",
    [
        {"m": [{"role": "user", "content": f"message {n}"} for n in range(200_000)]},
        {"floats": [[n / 7 for n in range(1_000)] for _ in range(1_100)]},
        {"binary": [bytes(range(256)) * 4_000 for _ in range(9)]},
        {"text": ["汉字かな交じり文 " * 100 for _ in range(3_000)]},
    ],
    ids=["200,000 messages", "1.1 million floats", "9 MB of bytes", "8 MB of other scripts"],
)
def test_large_ordinary_contexts_pass(data: dict[str, Any]) -> None:
    """What people really store near the 10 MB limit is not mistaken for a flood, on either way."""
    encoded = encode(data, CONTEXT_ID)
    assert encoded.raw_bytes > 6_000_000
    assert deserialize(unseal(encoded.stored, CONTEXT_ID)) == data
