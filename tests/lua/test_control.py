"""open and set_flag: the tenant's record, its mode, limits and flags, and their audit.

What belongs here: what is stored and said. What does not: obeying it (`test_modes`, `test_capacity`).
"""

from __future__ import annotations

from typing import Any

import pytest
import redis

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.shard import Shard


def audit(shard: Shard) -> list[dict[str, str]]:
    """The audit entries, oldest first."""
    entries: Any = shard.client.xrange(shard.keys.audit)
    return [{name.decode(): value.decode() for name, value in fields.items()} for _, fields in entries]


def test_open_gives_a_record_once(shard: Shard) -> None:
    """The first call makes the record; later ones answer the one that is there and change nothing."""
    shard.client.delete(shard.keys.shard)
    before = shard.dump()
    assert shard.call("open", shards=4, marker="abc") == [b"4", b"abc", b"1"]
    assert shard.changes(before) == {"shard": "+"}
    record: Any = shard.client.hgetall(shard.keys.shard)
    assert int(record.pop(b"created_ms")) <= shard.now_ms()
    assert record == {b"shards": b"4", b"marker": b"abc", b"format": b"1"}
    before = shard.dump()
    assert shard.call("open", shards=8, marker="def", mode="paused") == [b"4", b"abc", b"0"]
    assert_same(before, shard.dump())


@pytest.mark.parametrize("mode, flag", [("live", None), ("dry_run", b"dry_run")])
def test_open_sets_the_first_mode(shard: Shard, mode: str, flag: bytes | None) -> None:
    """A tenant that does not start live has its mode as a flag, unless somebody set one before."""
    shard.client.delete(shard.keys.shard)
    shard.open(mode)
    assert shard.client.hget(shard.keys.flags, "mode") == flag
    shard.client.delete(shard.keys.shard)
    shard.call("set_flag", name="mode", value="paused")
    shard.open(mode)
    assert shard.client.hget(shard.keys.flags, "mode") == b"paused"


@pytest.mark.parametrize(
    "args, name",
    [({"shards": 0}, "shards"), ({"shards": 1025}, "shards"), ({"shards": "x"}, "shards"), ({"marker": ""}, "marker"),
     ({"marker": "xyz"}, "marker"), ({"mode": ""}, "mode"), ({"mode": "Live!"}, "mode")],
)  # fmt: skip
def test_open_checks_its_arguments(shard: Shard, args: Any, name: str) -> None:
    """What is malformed is refused by name, and no record is made."""
    shard.client.delete(shard.keys.shard)
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.call("open", **args)
    assert (caught.value.word, caught.value.facts["name"]) == ("LKARGUMENT", name)
    assert_same(before, shard.dump())


@pytest.mark.parametrize("shards", ["04", " 4", "0x4", "4.0"])
def test_the_record_holds_a_number_that_compares(shard: Shard, shards: str) -> None:
    """However the number was written, the record has it in one form, so that callers agree about it."""
    shard.client.delete(shard.keys.shard)
    assert shard.call("open", shards=shards)[0] == b"4"
    assert shard.client.hget(shard.keys.shard, "shards") == b"4"


@pytest.mark.parametrize(
    "name, value",
    [("mode", "paused"), ("max_entries", "10"), ("max_bytes", "0"), ("max_mbps", "5"), ("policy", "evict_lru"),
     ("flag.colour", "blue"), ("flag.a_b-c.d", "x" * 256)],
)  # fmt: skip
def test_a_flag_is_set_audited_and_taken_back(shard: Shard, name: str, value: str) -> None:
    """Flags and audit change together and nothing else; the empty value restores the default."""
    before = shard.dump()
    assert shard.call("set_flag", name=name, value=value, by="ann", reason="test") == [b"OK", b"", value.encode()]
    assert shard.changes(before) == {"flags": "+", "audit": "+"}
    assert shard.client.hget(shard.keys.flags, name) == value.encode()
    assert shard.call("set_flag", name=name, value="") == [b"OK", value.encode(), b""]
    assert not shard.client.exists(shard.keys.flags)
    assert audit(shard) == [
        {"flag": name, "from": "", "to": value, "by": "ann", "why": "test"},
        {"flag": name, "from": value, "to": "", "by": "redis-cli", "why": ""},
    ]


@pytest.mark.parametrize("value", ["1e3", " 1000", "0x3e8", "1000.0"])
def test_a_limit_is_stored_as_a_plain_number(shard: Shard, value: str) -> None:
    """However the number was written, every reader of the flags can read it."""
    assert shard.call("set_flag", name="max_entries", value=value)[2] == b"1000"
    assert shard.client.hget(shard.keys.flags, "max_entries") == b"1000"
    assert audit(shard)[-1]["to"] == "1000"


@pytest.mark.parametrize(
    "args",
    [{"name": "mode", "value": "off"}, {"name": "policy", "value": "lru"}, {"name": "max_entries", "value": "-1"},
     {"name": "max_bytes", "value": "1.5"}, {"name": "max_mbps", "value": "nan"},
     {"name": "max_entries", "value": "1e16"},
     {"name": "colour", "value": "x"}, {"name": "flag.", "value": "x"}, {"name": "flag.a b", "value": "x"},
     {"name": "", "value": "x"}, {"value": "x" * 257}, {"by": "x" * 257}, {"reason": "x" * 257}, {"window": 0}],
)  # fmt: skip
def test_set_flag_checks_its_arguments(shard: Shard, args: Any) -> None:
    """An unknown name or value is refused, and neither flags nor audit change."""
    before = shard.dump()
    with pytest.raises(Refused, match="LKARGUMENT"):
        shard.call("set_flag", **args)
    assert_same(before, shard.dump())


@pytest.mark.parametrize("stream", ["audit", "events"])
def test_a_stream_at_its_end_stops_everything(shard: Shard, stream: str) -> None:
    """A stream whose last id is the largest there is refuses, and then nothing else is written either."""
    shard.preserve(1)
    key = getattr(shard.keys, stream)
    shard.client.delete(key)
    shard.client.xadd(key, {"a": "b"}, id=f"{2**64 - 1}-{2**64 - 1}")
    calls: list[tuple[str, dict[str, Any]]] = [("set_flag", {"value": "x"})] if stream == "audit" else EMITTING
    for name, args in calls:
        before = shard.dump()
        with pytest.raises(redis.ResponseError, match="exhausted"):
            shard.call(name, **args)
        assert_same(before, shard.dump())


ONE = "00000001-0000-4000-8000-000000000000"
EMITTING: list[tuple[str, dict[str, Any]]] = [
    ("preserve", {"id": ONE}),
    ("handoff", {"id": ONE, "ttl_ms": 60_000}),
    ("extend", {"id": ONE, "ttl_ms": 7_200_000}),
    ("pin", {"id": ONE}),
    ("append", {"id": ONE}),
    ("append", {"id": ONE, "ttl_ms": 60_000, "event": "patch"}),
    ("lease", {"id": ONE}),
    ("drop", {"id": ONE}),
    ("report", {"id": ONE}),
]
