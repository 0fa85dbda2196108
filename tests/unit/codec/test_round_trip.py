"""What goes in comes out, with equal types."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from lukhas_redis.codec import decode, deserialize, encode, serialize
from tests.unit.codec.storable import CONTEXT_ID, EVERY_TYPE, canonical, contexts, examples


@examples(150, 5_000)
@given(contexts, st.sampled_from(["auto", "none", "light", "standard", "aggressive", 0, 1, 6, 9]))
def test_any_storable_data_comes_back_equal_with_equal_types(data: dict[Any, Any], compression: str | int) -> None:
    """decode(encode(x)) equals x in every value and every type, at every compression level."""
    encoded = encode(data, CONTEXT_ID, compression=compression)
    again = decode(encoded.stored, CONTEXT_ID, checksum=encoded.checksum, digest=encoded.digest)
    assert canonical(again) == canonical(data)


def test_every_supported_type_once_as_value_and_as_key() -> None:
    """One fixed context with every type, also as dict keys, empty collections included, comes back the same."""
    assert canonical(deserialize(serialize(EVERY_TYPE))) == canonical(EVERY_TYPE)


def test_zone_key_and_fold_survive() -> None:
    """Both readings of the hour that a clock change repeats keep their zone key, fold and so their UTC offset."""
    first = datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    again = deserialize(serialize({"a": first, "b": first.replace(fold=1)}))
    assert [again[key].tzinfo.key for key in "ab"] == ["Europe/Berlin"] * 2
    assert [again[key].utcoffset() for key in "ab"] == [timedelta(hours=2), timedelta(hours=1)]


def test_a_named_fixed_offset_keeps_its_name() -> None:
    """A timezone with a name of its own has that name afterwards; UTC is the UTC object itself."""
    named = timezone(timedelta(hours=5, minutes=45), "Nepal")
    data = {"n": datetime(2024, 1, 1, tzinfo=named), "u": datetime(2024, 1, 1, tzinfo=UTC)}
    again = deserialize(serialize(data))
    assert again["n"].tzname() == "Nepal"
    assert again["u"].tzinfo is UTC


def test_long_lists_of_one_type_and_of_many() -> None:
    """Lists past every shortcut of the walk (all numbers, all text, mixed, over 10,000 elements) come back the same."""
    data = {
        "numbers": list(range(20_000)),
        "floats": [i / 7 for i in range(2_000)],
        "texts": [f"t{i}" for i in range(500)],
        "mixed": [1, "a", (2,), [3], None] * 50,
        "tuples": tuple((i, str(i)) for i in range(300)),
        "set": set(range(300)),
    }
    assert canonical(deserialize(serialize(data))) == canonical(data)


def test_the_data_is_not_changed_and_not_shared() -> None:
    """Encoding leaves the caller's data alone, and the decoded copy shares no container with it."""
    inner: list[int] = [1]
    data = {"a": inner}
    again = deserialize(serialize(data))
    again["a"].append(2)
    assert data == {"a": [1]}


def test_equal_sets_give_equal_bytes_in_every_process() -> None:
    """The bytes of a set do not depend on the hash seed, so a repeated request has the same digest."""
    program = (
        "from lukhas_redis.codec import serialize; import uuid;"
        "print(serialize({'s': {'a','b','c','d'}, 'm': {'x', b'y', ('z', 1), 4, uuid.UUID(int=1)}}).hex())"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        for seed in ("1", "2", "3")
    ]
    assert len({run.stdout for run in runs}) == 1


def test_encoded_tells_the_facts_of_the_write() -> None:
    """Encoded carries both digests in hex, both lengths, what compression was used, and the time of each step."""
    encoded = encode({"text": "hello " * 2_000}, CONTEXT_ID, compression=9)
    assert (encoded.compression, encoded.level) == ("aggressive", 9)
    assert encoded.stored_bytes == len(encoded.stored) < encoded.raw_bytes
    assert encoded.compression_ratio == encoded.stored_bytes / encoded.raw_bytes
    assert {len(encoded.checksum), len(encoded.digest)} == {64}
    assert encoded.serialize_ms > 0
    assert encoded.compress_ms > 0
