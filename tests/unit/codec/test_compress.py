"""Which compression is used, and that it gives back exactly what it was given."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lukhas_redis.codec import encode, seal, unseal
from lukhas_redis.codec.compress import choose, compress, decompress
from lukhas_redis.errors import InvalidArgument
from tests.unit.codec.storable import CONTEXT_ID, examples

NOISE = random.Random(7).randbytes(1_000_000)
TEXT = b"the same words again and again, " * 40_000


@pytest.mark.parametrize(
    "size,name",
    [(0, "none"), (499, "none"), (500, "light"), (5_120, "light"), (5_121, "standard"), (10_485_760, "standard")],
)
def test_auto_goes_by_size(size: int, name: str) -> None:
    """Auto: none below 500 bytes, light to 5 kB, standard above."""
    assert choose("auto", size).name == name


@pytest.mark.parametrize("given,number", [("none", 0), ("light", 1), ("standard", 6), ("aggressive", 9)])
def test_names_and_numbers_are_the_same_levels(given: str, number: int) -> None:
    """Each level has the name and the number of the contract, and both choose it; it is what the result reports."""
    assert choose(given, 10) is choose(number, 10)
    encoded = encode({"text": "words " * 1_000}, CONTEXT_ID, compression=given)
    assert (encoded.compression, encoded.level) == (given, number)


@pytest.mark.parametrize("unknown", ["best", "", 2, 6.0, True, None, [6]], ids=repr)
def test_an_unknown_level_is_refused(unknown: Any) -> None:
    """Anything else is InvalidArgument, naming the choices."""
    with pytest.raises(InvalidArgument, match="auto, none, light, standard, aggressive or 0, 1, 6, 9"):
        encode({}, CONTEXT_ID, compression=unknown)


def test_a_higher_level_is_smaller() -> None:
    """The levels really differ: on mixed text light stores more than standard, standard more than aggressive."""
    words = random.Random(1)
    text = " ".join(words.choice(["alpha", "beta", "gamma", "delta", str(words.random())]) for _ in range(20_000))
    sizes = [encode({"t": text}, CONTEXT_ID, compression=level).stored_bytes for level in (0, 1, 6, 9)]
    assert sizes == sorted(set(sizes), reverse=True)


@pytest.mark.parametrize("level", [1, 6, 9])
@pytest.mark.parametrize("size", [600, 50_000, 1_000_000])
def test_what_does_not_shrink_is_stored_raw(level: int, size: int) -> None:
    """Noise is stored raw and reported as such, whatever level was asked for."""
    sealed = seal(NOISE[:size], CONTEXT_ID, compression=level)
    assert (sealed.compression, sealed.level, sealed.stored_bytes) == ("none", 0, size + 48)
    assert unseal(sealed.stored, CONTEXT_ID) == NOISE[:size]


@pytest.mark.parametrize("raw", [NOISE[:400_000] + TEXT, TEXT + NOISE[:400_000], NOISE[:900_000] + TEXT[:300_000]])
def test_noise_at_one_end_does_not_hide_what_shrinks(raw: bytes) -> None:
    """Large data with an incompressible head or tail is compressed when the rest shrinks."""
    sealed = seal(raw, CONTEXT_ID)
    assert sealed.compression == "standard"
    assert sealed.stored_bytes < 0.9 * len(raw)
    assert unseal(sealed.stored, CONTEXT_ID) == raw


@examples(100, 5_000)
@given(st.binary(max_size=600), st.integers(1, 50), st.sampled_from([0, 1, 6, 9]))
def test_any_bytes_come_back(part: bytes, times: int, level: int) -> None:
    """Compression gives back what it was given, and never stores more than was given."""
    raw = part * times
    packed, used = compress(raw, choose(level, len(raw)))
    assert len(packed) <= len(raw)
    assert decompress(memoryview(packed), used.code, len(raw)) == raw


@pytest.mark.parametrize("declared", [0, 1, 47_999, 48_001, 10_485_760])
def test_a_wrong_length_is_an_error(declared: int) -> None:
    """A declared length that is not the real one raises, in both directions."""
    packed, used = compress(TEXT[:48_000], choose("standard", 48_000))
    with pytest.raises(ValueError, match=r"damaged|after decompression"):
        decompress(memoryview(packed), used.code, declared)
