"""Segments: bound to their context, told apart from bodies, chained; no changed byte gets through."""

from __future__ import annotations

import os
import struct
from hashlib import sha1, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lukhas_redis.codec import (
    HEADER_BYTES,
    Append,
    CodecLimits,
    chained,
    pack_change,
    read_header,
    seal,
    seal_segment,
    unseal,
    unseal_segment,
)
from lukhas_redis.errors import ContextCorrupted, ContextTooLarge, InvalidArgument, UnsupportedFormat
from tests.unit.codec.storable import CONTEXT_ID, examples

RAW = pack_change(Append(("messages",), [{"role": "user", "content": f"message {n}"} for n in range(60)]))
OURS = (ContextCorrupted, UnsupportedFormat)


@pytest.mark.parametrize("raw", [b"", b"\x80", RAW, RAW * 20, os.urandom(5_000)], ids=len)
def test_what_is_sealed_is_unsealed(raw: bytes) -> None:
    """The bytes come back with the digest that was announced; small, large and incompressible ones."""
    segment = seal_segment(raw, CONTEXT_ID)
    assert unseal_segment(segment.stored, CONTEXT_ID) == (raw, segment.digest)
    assert segment.raw_bytes == len(raw)
    assert segment.stored[16:48].hex() == segment.digest


def test_the_header_says_what_follows() -> None:
    """48 bytes as in the envelope: magic LKSG, format, codec, compression chosen by size, raw length, digest."""
    stored = seal_segment(RAW, CONTEXT_ID).stored
    assert stored[:8] == b"LKSG\x01\x01\x01\x01"
    assert seal_segment(b"\x80", CONTEXT_ID).stored[:8] == b"LKSG\x01\x01\x00\x00"
    assert seal_segment(RAW * 20, CONTEXT_ID).stored[:8] == b"LKSG\x01\x01\x01\x06"
    assert struct.unpack(">Q", stored[8:16]) == (len(RAW),)
    assert len(stored) < HEADER_BYTES + len(RAW) // 2


def test_the_digest_is_what_the_documentation_says() -> None:
    """SHA-256 of tag, id with its length, 16 header bytes, SHA-256 of the raw bytes, payload."""
    segment = seal_segment(RAW, "id")
    head = b"lukhas_redis/segment/1\x00" + struct.pack(">I", 2) + b"id" + segment.stored[:16]
    expected = sha256(head + sha256(RAW).digest() + segment.stored[48:]).hexdigest()
    assert segment.digest == expected


def test_a_segment_belongs_to_one_context() -> None:
    """Under another id it is corrupted, also when id and content could run into each other."""
    segment = seal_segment(RAW, "a")
    assert segment.digest != seal_segment(RAW, "b").digest
    for other in ("b", "aL", ""):
        with pytest.raises(ContextCorrupted, match="digest") as caught:
            unseal_segment(segment.stored, other)
        assert caught.value.fields["reason"] == "digest"


def test_body_and_segment_are_never_taken_for_each_other() -> None:
    """The magic tells them apart, and the domain tag does where the magic was forged."""
    body, segment = seal(RAW, CONTEXT_ID).stored, seal_segment(RAW, CONTEXT_ID).stored
    for forged in (body, b"LKSG" + body[4:]):
        with pytest.raises(ContextCorrupted):
            unseal_segment(forged, CONTEXT_ID)
    for forged in (segment, b"LKHS" + segment[4:]):
        with pytest.raises(ContextCorrupted):
            unseal(forged, CONTEXT_ID)
    with pytest.raises(ContextCorrupted, match="magic"):
        read_header(segment)


def test_a_newer_format_is_refused_and_left_alone() -> None:
    """A format number above ours is UnsupportedFormat."""
    stored = bytearray(seal_segment(RAW, CONTEXT_ID).stored)
    stored[4] = 2
    with pytest.raises(UnsupportedFormat, match=r"format 2, .* up to format 1"):
        unseal_segment(bytes(stored), CONTEXT_ID)


@pytest.mark.parametrize("raw", [b"\x80", RAW], ids=["stored raw", "compressed"])
def test_every_flipped_bit_is_found(raw: bytes) -> None:
    """Each single bit of header and payload, flipped, gives one of our two errors."""
    stored = seal_segment(raw, CONTEXT_ID).stored
    for bit in range(len(stored) * 8):
        forged = bytearray(stored)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(OURS):
            unseal_segment(bytes(forged), CONTEXT_ID)


def test_another_payload_of_the_same_content_is_found() -> None:
    """The stored bytes count, not only what they decompress to: LZ4 has many encodings of one text."""
    plain = seal_segment(b"x" * 100, CONTEXT_ID).stored
    squeezed = seal_segment(b"x" * 600, CONTEXT_ID).stored
    forged = squeezed[:8] + plain[8:48] + b"\x1fx\x01\x00\x4b\x50xxxxx"
    with pytest.raises(ContextCorrupted):
        unseal_segment(forged, CONTEXT_ID)


@examples(300, 20_000)
@given(st.binary(max_size=200), st.sampled_from([b"", b"LKSG", b"LKSG\x01\x01\x00\x00", b"LKSG\x01\x01\x01\x06"]))
def test_random_bytes_give_only_our_errors(tail: bytes, head: bytes) -> None:
    """Whatever is stored in the list of segments, reading it raises one of our errors."""
    with pytest.raises(OURS):
        unseal_segment(head + tail, CONTEXT_ID)


@examples(200, 10_000)
@given(st.data())
def test_cut_and_extended_segments_are_corrupted(data: st.DataObject) -> None:
    """Any truncation and any extension gives ContextCorrupted."""
    stored = seal_segment(RAW, CONTEXT_ID).stored
    at = data.draw(st.integers(0, len(stored) - 1))
    for forged in (stored[:at], stored + data.draw(st.binary(min_size=1, max_size=9))):
        with pytest.raises(ContextCorrupted):
            unseal_segment(forged, CONTEXT_ID)


@pytest.mark.parametrize("declared", [10_485_761, 2**40, 2**64 - 1])
def test_a_declared_length_over_the_limit_is_refused_before_decompression(declared: int) -> None:
    """The reason is "size", and nothing of that size is allocated."""
    stored = seal_segment(RAW, CONTEXT_ID).stored
    with pytest.raises(ContextCorrupted, match="declares") as caught:
        unseal_segment(stored[:8] + struct.pack(">Q", declared) + stored[16:], CONTEXT_ID)
    assert caught.value.fields["reason"] == "size"


def test_a_wrong_declared_length_is_a_compression_error() -> None:
    """LZ4 must give exactly the declared length."""
    stored = seal_segment(RAW, CONTEXT_ID).stored
    with pytest.raises(ContextCorrupted) as caught:
        unseal_segment(stored[:8] + struct.pack(">Q", len(RAW) + 1) + stored[16:], CONTEXT_ID)
    assert caught.value.fields["reason"] == "compression"


def test_limits_and_ids_are_checked_while_sealing() -> None:
    """Too many bytes are ContextTooLarge, an id without bytes is the caller's mistake."""
    narrow = CodecLimits(max_context_size_bytes=100)
    with pytest.raises(ContextTooLarge, match="max_context_size_bytes=100"):
        seal_segment(bytes(101), CONTEXT_ID, limits=narrow)
    with pytest.raises(ContextCorrupted):
        unseal_segment(seal_segment(bytes(101), CONTEXT_ID).stored, CONTEXT_ID, narrow)
    with pytest.raises(InvalidArgument, match="context_id"):
        seal_segment(b"\x80", "\ud800")


def test_the_chain_is_what_lua_computes() -> None:
    """redis.sha1hex(chain .. digest): the chain as text, the digest as the 32 bytes that stand in the header."""
    segment = seal_segment(RAW, CONTEXT_ID)
    assert chained("c" * 40, segment.digest) == sha1(b"c" * 40 + segment.stored[16:48]).hexdigest()
    assert len(chained(segment.digest, segment.digest)) == 40


@examples(200, 5_000)
@given(st.lists(st.binary(max_size=9), min_size=2, max_size=6, unique=True), st.data())
def test_the_chain_sees_order_loss_and_repeats(parts: list[bytes], data: st.DataObject) -> None:
    """Segments dropped, doubled or moved give another chain."""
    digests = [seal_segment(part, CONTEXT_ID).digest for part in parts]
    at = data.draw(st.integers(0, len(digests) - 2))
    swapped = [*digests[:at], digests[at + 1], digests[at], *digests[at + 2 :]]
    chains = {_chain(each) for each in (digests, digests[:at] + digests[at + 1 :], [*digests, digests[at]], swapped)}
    assert len(chains) == 4


def _chain(digests: list[str]) -> str:
    chain = "0" * 64
    for digest in digests:
        chain = chained(chain, digest)
    return chain
