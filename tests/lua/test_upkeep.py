"""extend, pin and drop.

What belongs here: what each changes and leaves alone. What does not: request ids, modes and absences.
"""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.shard import HOUR, PARTS, Shard, context_id, told

A = context_id(1)


def full(shard: Shard) -> int:
    """A context with segments, hops and log; its deadline."""
    expires = int(told("preserve", shard.preserve(1))["expires_ms"])
    shard.append(1)
    shard.call("handoff", id=A)
    shard.call("touch", id=A)
    return expires


def test_extend_moves_every_deadline_later(shard: Shard) -> None:
    """Hash, body, hops, log, index and session get the new deadline, with one event; version and order stay."""
    full(shard)
    before = shard.dump()
    reply = shard.call("extend", id=A, ttl_ms=2 * HOUR, request_id="r1")
    changed = {f"{part}:{A}": "~" for part in PARTS} | {"req:r1": "+"}
    assert shard.changes(before) == {**changed, **dict.fromkeys(("index", "session:session-1", "events"), "~")}
    expires = int(told("extend", reply)["expires_ms"])
    assert shard.now_ms() + HOUR < expires <= shard.now_ms() + 2 * HOUR
    assert set(shard.deadlines(1).values()) == {expires}
    assert told("extend", reply)["version"] == "3"
    assert shard.events()[-1] == ("context.extend", A, "3")
    assert shard.fields(1)["ttl_ms"] == str(2 * HOUR)
    assert not wrong_accounts(shard)


@pytest.mark.parametrize("ttl_ms", [1, 60_000, HOUR - 60_000])
def test_extend_never_shortens(shard: Shard, ttl_ms: int) -> None:
    """A deadline before the present one changes nothing, and the answer names the deadline that holds."""
    expires = full(shard)
    before = shard.dump()
    assert shard.call("extend", id=A, ttl_ms=ttl_ms)[-1] == str(expires).encode()
    assert_same(before, shard.dump())


def test_extend_asks_for_the_right_session(shard: Shard) -> None:
    """The session's key must be declared; the answer names it and nothing has changed."""
    full(shard)
    before = shard.dump()
    assert shard.call("extend", id=A, sid="", ttl_ms=2 * HOUR) == [b"SESSION", b"session-1"]
    shard.client.hdel(shard.keys.ctx(A), "session")
    with pytest.raises(Refused, match="LKCORRUPT"):
        shard.call("extend", id=A, ttl_ms=2 * HOUR)
    shard.client.hset(shard.keys.ctx(A), "session", "session-1")
    assert_same(before, shard.dump())


@pytest.mark.parametrize("ttl_ms", [0, -1, "1.5", "nan", str(2**63), "", 31_536_000_001])
def test_extend_takes_whole_milliseconds_up_to_a_year(shard: Shard, ttl_ms: Any) -> None:
    """Anything else is refused by name."""
    full(shard)
    before = shard.dump()
    with pytest.raises(Refused, match="ttl_ms"):
        shard.call("extend", id=A, ttl_ms=ttl_ms)
    assert_same(before, shard.dump())


def test_pin_takes_a_context_out_of_the_order(shard: Shard) -> None:
    """Only metadata, order and event change, never a deadline; unpinning puts it back at its last write."""
    expires = full(shard)
    before = shard.dump()
    assert shard.call("pin", id=A, request_id="r1") == [b"OK", b"0", A.encode(), b"3", b"1"]
    assert shard.changes(before) == {f"ctx:{A}": "~", "order": "-", "events": "~", "req:r1": "+"}
    assert shard.events()[-1] == ("context.pin", A, "3")
    assert shard.fields(1)["pinned"] == "1"
    assert not wrong_accounts(shard)
    assert shard.call("pin", id=A, pinned=0)[4] == b"0"
    assert shard.scores(shard.keys.order) == {A: float(shard.fields(1)["updated_ms"])}
    assert "pinned" not in shard.fields(1)
    assert set(shard.deadlines(1).values()) == {expires}


@pytest.mark.parametrize("pinned", ["", "2", "yes", "-1"])
def test_pin_takes_0_or_1(shard: Shard, pinned: str) -> None:
    """Anything else is refused by name."""
    full(shard)
    before = shard.dump()
    with pytest.raises(Refused, match="pinned"):
        shard.call("pin", id=A, pinned=pinned)
    assert_same(before, shard.dump())


def test_drop_removes_a_context_and_remembers_why(shard: Shard) -> None:
    """All five keys and every account are gone at once; the reason, the total and one event stay."""
    full(shard)
    shard.preserve(2)
    before = shard.dump()
    assert shard.call("drop", id=A, request_id="r1") == [b"OK", b"0", A.encode(), b"3"]
    gone = {f"{part}:{A}": "-" for part in PARTS} | {"tombs": "+", "req:r1": "+"}
    assert shard.changes(before) == {**gone, **dict.fromkeys(("index", "order", "sizes", "usage", "events"), "~")}
    assert shard.events()[-1] == ("context.drop", A, "0")
    assert shard.usage()["dropped"] == 1
    assert set(shard.scores(shard.keys.tombs)) == {f"dropped:{A}"}
    assert not wrong_accounts(shard)


def test_drop_takes_a_pinned_context_and_one_without_a_body(shard: Shard) -> None:
    """Pinned protects from eviction only; a context whose body is lost can be dropped."""
    full(shard)
    shard.call("pin", id=A)
    shard.client.unlink(shard.keys.body(A))
    assert shard.call("drop", id=A)[0] == b"OK"
    assert not wrong_accounts(shard)


def test_drop_under_another_version_is_a_conflict(shard: Shard) -> None:
    """The refusal names the stored version, and the right one goes through."""
    full(shard)
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.call("drop", id=A, if_version=1)
    assert (caught.value.word, caught.value.facts) == ("LKCONFLICT", {"actual": "3"})
    assert_same(before, shard.dump())
    assert shard.call("drop", id=A, if_version=3)[0] == b"OK"


@pytest.mark.parametrize("key", ["index", "order", "sizes", "usage", "tombs", "events"])
@pytest.mark.parametrize("name", ["drop", "pin", "extend"])
def test_a_key_of_another_type_stops_them_before_the_first_write(shard: Shard, name: str, key: str) -> None:
    """Whatever they do with the key, they do all of it or nothing."""
    full(shard)
    wrong = getattr(shard.keys, key)
    shard.client.delete(wrong)
    shard.client.set(wrong, "not ours")
    before = shard.dump()
    if "WRONGTYPE" in str(shard.outcome(name, id=A, ttl_ms=2 * HOUR)):
        assert_same(before, shard.dump())
    else:
        assert name != "drop"
        assert shard.changes(before)
        assert key not in shard.changes(before)
