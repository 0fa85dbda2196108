"""The envelope: what its header says, and that no changed byte gets through."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lukhas_redis.codec import (
    HEADER_BYTES,
    CodecLimits,
    decode,
    encode,
    header_of,
    read_header,
    seal,
    serialize,
    unseal,
)
from lukhas_redis.errors import ContextCorrupted, ContextTooLarge, InvalidArgument, UnsupportedFormat
from tests.unit.codec.storable import CONTEXT_ID, examples

DATA: dict[str, Any] = {"messages": [{"role": "user", "content": f"message {n}"} for n in range(60)]}
OURS = (ContextCorrupted, UnsupportedFormat)


def test_the_header_says_what_follows() -> None:
    """48 bytes: magic, format, codec, compression and level, raw length, digest; `header_of` returns exactly these."""
    encoded = encode(DATA, CONTEXT_ID, compression="standard")
    header = read_header(encoded.stored)
    assert HEADER_BYTES == 48
    assert header_of(encoded.stored) == encoded.stored[:48]
    assert encoded.stored[:8] == b"LKHS\x01\x01\x01\x06"
    assert (header.format_version, header.codec, header.compression, header.level) == (1, 1, "standard", 6)
    assert (header.raw_bytes, header.digest) == (encoded.raw_bytes, encoded.digest)
    assert read_header(header_of(encoded.stored)) == header


def test_the_checksum_is_the_sha256_of_the_serialized_data() -> None:
    """The contract's `checksum` does not depend on the context id or the compression; the digest does."""
    raw = serialize(DATA)
    one, other = seal(raw, CONTEXT_ID, compression=1), seal(raw, "another", compression=9)
    assert one.checksum == other.checksum == sha256(raw).hexdigest()
    assert one.digest != other.digest != seal(raw, CONTEXT_ID, compression=9).digest


def test_the_digest_binds_id_header_and_payload() -> None:
    """The digest is what the documentation says: SHA-256 of tag, id with its length, 16 header bytes, payload."""
    stored = encode(DATA, "id").stored
    expected = sha256(b"lukhas_redis/body/1\x00" + struct.pack(">I", 2) + b"id" + stored[:16] + stored[48:])
    assert read_header(stored).digest == expected.hexdigest()


def test_bytes_moved_to_another_context_are_corrupted() -> None:
    """Stored bytes are refused under any id but their own, with and without the digest of the metadata."""
    encoded = encode(DATA, CONTEXT_ID)
    for digest in (None, encoded.digest):
        with pytest.raises(ContextCorrupted, match="digest") as caught:
            decode(encoded.stored, CONTEXT_ID + "x", checksum=encoded.checksum, digest=digest)
        assert caught.value.fields["reason"] == "digest"


def test_the_metadata_has_the_last_word() -> None:
    """A valid envelope of other content is refused when the metadata names another digest or checksum."""
    encoded, other = encode(DATA, CONTEXT_ID), encode({"a": 1}, CONTEXT_ID)
    with pytest.raises(ContextCorrupted, match="digest"):
        decode(encoded.stored, CONTEXT_ID, checksum=None, digest=other.digest)
    with pytest.raises(ContextCorrupted, match="checksum") as caught:
        decode(encoded.stored, CONTEXT_ID, checksum=other.checksum, digest=encoded.digest)
    assert caught.value.fields["reason"] == "checksum"
    with pytest.raises(ContextCorrupted):
        decode(encoded.stored, CONTEXT_ID, checksum="\ud800 not hex", digest=None)
    assert decode(encoded.stored, CONTEXT_ID, checksum=None, digest=None) == DATA


def test_a_newer_format_is_refused_by_both_versions() -> None:
    """A format number above ours is UnsupportedFormat, naming the one found and the newest one known."""
    stored = bytearray(encode(DATA, CONTEXT_ID).stored)
    stored[4] = 2
    with pytest.raises(UnsupportedFormat, match=r"format 2, .* up to format 1") as caught:
        decode(bytes(stored), CONTEXT_ID, checksum=None, digest=None)
    assert caught.value.fields == {"found": 2, "supported": 1}


@pytest.mark.parametrize("compression", ["none", "standard"])
def test_every_flipped_bit_of_the_header_is_found(compression: str) -> None:
    """Each single bit of the 48 bytes, flipped, gives one of our two errors."""
    encoded = encode(DATA, CONTEXT_ID, compression=compression)
    for bit in range(HEADER_BYTES * 8):
        forged = bytearray(encoded.stored)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(OURS):
            decode(bytes(forged), CONTEXT_ID, checksum=encoded.checksum, digest=None)


@examples(200, 10_000)
@given(st.data())
def test_changed_cut_and_extended_bytes_are_corrupted(data: st.DataObject) -> None:
    """Any change of the payload, any truncation and any extension gives ContextCorrupted and nothing else."""
    encoded = encode(DATA, CONTEXT_ID, compression=data.draw(st.sampled_from(["none", "light", "aggressive"])))
    stored = encoded.stored
    at = data.draw(st.integers(HEADER_BYTES, len(stored) - 1))
    new = data.draw(st.integers(0, 255).filter(lambda byte: byte != stored[at]))
    for forged in (stored[:at] + bytes([new]) + stored[at + 1 :], stored[:at], stored + bytes([new])):
        with pytest.raises(ContextCorrupted):
            decode(forged, CONTEXT_ID, checksum=None, digest=None)


@examples(300, 20_000)
@given(st.binary(max_size=200), st.sampled_from([b"", b"LKHS", b"LKHS\x01\x01\x00\x00", b"LKHS\x01\x01\x01\x06"]))
def test_random_bytes_give_only_our_errors(tail: bytes, head: bytes) -> None:
    """Whatever is stored under a body key, reading it raises one of our errors."""
    with pytest.raises(OURS):
        decode(head + tail, CONTEXT_ID, checksum=None, digest=None)


@pytest.mark.parametrize("stored", [b"", b"LKHS", bytes(48), b"LKHS\x00" + bytes(43)], ids=repr)
def test_what_is_no_envelope_is_corrupted(stored: bytes) -> None:
    """Empty, short, zeroed and format-0 bytes are corrupted, not a newer format."""
    with pytest.raises(ContextCorrupted):
        read_header(stored)


@pytest.mark.parametrize("context_id", ["\ud800", 7], ids=repr)
def test_an_id_without_bytes_is_an_invalid_argument(context_id: Any) -> None:
    """An id that cannot be encoded is the caller's mistake, not corruption."""
    with pytest.raises(InvalidArgument, match="context_id"):
        encode({}, context_id)


def test_ids_of_any_length_do_not_run_into_the_content() -> None:
    """The id is hashed with its length, so moving a byte from the content to the id changes the digest."""
    stored = encode({}, "a").stored
    with pytest.raises(ContextCorrupted):
        unseal(stored, "aL")
    with pytest.raises(ContextCorrupted):
        unseal(stored, "")


def test_sealing_keeps_the_size_limit() -> None:
    """Bytes over the limit cannot be sealed, and sealed under a wider limit they are refused on the way out."""
    narrow = CodecLimits(max_context_size_bytes=100)
    with pytest.raises(ContextTooLarge, match="max_context_size_bytes=100"):
        seal(b"\x80" * 101, CONTEXT_ID, limits=narrow)
    with pytest.raises(ContextCorrupted, match="declares 101 bytes") as caught:
        unseal(seal(bytes(101), CONTEXT_ID).stored, CONTEXT_ID, limits=narrow)
    assert caught.value.fields["reason"] == "size"


def test_empty_bytes_can_be_sealed() -> None:
    """Zero bytes are sealed raw and have ratio 1.0."""
    sealed = seal(b"", CONTEXT_ID, compression="aggressive")
    assert unseal(sealed.stored, CONTEXT_ID, checksum=sealed.checksum) == b""
    assert (sealed.compression, sealed.compression_ratio) == ("none", 1.0)
