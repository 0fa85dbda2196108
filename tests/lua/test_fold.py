"""fold: another way to store the same, if nobody wrote meanwhile.

What belongs here: one script. What does not: when it is worth it (`lukhas_redis.ops.folding`), what readers get of it
(`test_reading`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.shard import HOUR, PARTS, Shard, chained, context_id, segment, told

A = context_id(1)
NEW: dict[str, Any] = {"payload": b"folded", "raw_bytes": 99, "level": 9, "checksum": "e" * 64, "digest": "f" * 32}


@pytest.fixture
def grown(shard: Shard) -> Shard:
    """A context with two segments."""
    shard.preserve(1)
    shard.append(1, b"one")
    shard.append(1, b"two", bump=0, view="abcdef0123456789 2")
    return shard


def fold(shard: Shard, **args: Any) -> list[bytes]:
    """Fold context 1 as it is now."""
    return list(shard.call("fold", id=A, **{"held": shard.identity(1), **NEW, **args}))


def left_alone(shard: Shard, **args: Any) -> list[bytes]:
    """The answer of a fold that must change nothing."""
    before = shard.dump()
    reply = fold(shard, **args)
    assert_same(before, shard.dump())
    return reply


def test_a_fold_changes_these_keys_and_no_others(grown: Shard) -> None:
    """Body, hash, size and totals; no event, no transition, no place in the order: nothing has happened to the data."""
    before, was = grown.dump(), grown.fields(1)
    assert fold(grown) == [b"OK", b"0", b"1"]
    changed = dict.fromkeys((f"ctx:{A}", f"body:{A}", "sizes", "usage"), "~")
    assert grown.changes(before) == {f"segs:{A}": "-", **changed}
    fields = grown.fields(1)
    new = {"raw_bytes": "99", "stored_bytes": "6", "level": "9", "checksum": "e" * 64, "digest": "f" * 32}
    new |= {"root": was["chain"], "segs": "0", "segs_bytes": "0", "segs_raw": "0"}
    assert fields == {**was, **new}
    assert grown.usage()["folded"] == 1
    assert grown.usage()["bytes"] == 6
    assert grown.deadlines(1)["body"] == int(was["expires_ms"])
    assert not wrong_accounts(grown)


def test_what_is_appended_after_a_fold_goes_on_with_the_chain(grown: Shard) -> None:
    """The chain never starts again within an incarnation, so a reader of before can still be brought up to date."""
    fold(grown)
    answer = told("append", grown.append(1, b"three"))
    assert answer["chain"] == chained("d" * 32, *map(segment, (b"one", b"two", b"three")))
    assert grown.segments(1) == [segment(b"three")]
    assert chained(grown.fields(1)["root"], segment(b"three")) == answer["chain"]
    assert fold(grown)[2] == b"1"


WRITES: dict[str, Callable[[Shard], Any]] = {
    "append": lambda s: s.append(1, b"three"),
    "preserve": lambda s: s.preserve(1),
    "fold": fold,
    "made again": lambda s: (s.call("drop", id=A), s.preserve(1, nonce="0123456789abcdef"), s.append(1), s.append(1)),
}


@pytest.mark.parametrize("write", WRITES)
def test_who_wrote_meanwhile_wins(grown: Shard, write: str) -> None:
    """A fold of what is no longer the newest changes nothing; another incarnation with equal numbers neither."""
    held = grown.identity(1)
    WRITES[write](grown)
    assert left_alone(grown, held=held) == [b"OK", b"0", b"0"]


@pytest.mark.parametrize("name, args", [("handoff", {}), ("extend", {"ttl_ms": 2 * HOUR}), ("pin", {}), ("lease", {})])
def test_what_leaves_the_data_alone_does_not_stop_a_fold(grown: Shard, name: str, args: dict[str, Any]) -> None:
    """Also while somebody holds the context: nothing a reader or a writer sees is changed."""
    held = grown.identity(1)
    grown.call(name, id=A, **args)
    assert fold(grown, held=held)[2] == b"1"
    assert set(grown.deadlines(1).values()) == {int(grown.fields(1)["expires_ms"]), -2}
    assert not wrong_accounts(grown)


@pytest.mark.parametrize("held", ["", "x", "abcdef0123456789 3", "abcdef0123456789 3 "])
def test_what_is_no_identity_folds_nothing(grown: Shard, held: str) -> None:
    """Only who names the very content may replace it."""
    assert left_alone(grown, held=held) == [b"OK", b"0", b"0"]


def test_there_must_be_something_to_fold_and_to_gain(grown: Shard) -> None:
    """A body that is larger than what it replaces is not stored (no limit need be looked at), an equal one is."""
    bytes_now = grown.usage()["bytes"]
    assert left_alone(grown, payload=b"x" * (bytes_now + 1)) == [b"OK", b"0", b"0"]
    assert fold(grown, payload=b"x" * bytes_now) == [b"OK", b"0", b"1"]
    assert left_alone(grown) == [b"OK", b"0", b"0"]
    grown.preserve(1)
    assert left_alone(grown) == [b"OK", b"0", b"0"]


def test_a_staged_body_is_moved_into_place(grown: Shard) -> None:
    """A large body comes beside the script, gets the context's deadline, and must be ours."""
    stage: dict[str, Any] = {"staged": 1, "token": "t1", "payload": b"head", "bytes": 8}
    before = grown.dump()
    with pytest.raises(Refused, match="LKSTAGE"):
        fold(grown, **stage)
    assert_same(before, grown.dump())
    grown.client.set(grown.keys.stage("t1"), b"headbody", ex=60)
    assert fold(grown, **stage)[2] == b"1"
    assert grown.client.get(grown.keys.body(A)) == b"headbody"
    expires = int(grown.fields(1)["expires_ms"])
    assert grown.deadlines(1) == {**dict.fromkeys(PARTS, expires), "segs": -2, "hops": -2}
    assert not grown.client.exists(grown.keys.stage("t1"))
    assert not wrong_accounts(grown)


@pytest.mark.parametrize("value", ["abc", "", "1.5"])
@pytest.mark.parametrize("staged", [0, 1])
def test_a_deadline_that_is_no_number_stops_it_before_the_first_write(grown: Shard, value: str, staged: int) -> None:
    """The staged body is not moved before it is known that its deadline can be set."""
    grown.client.set(grown.keys.stage("t1"), b"folded", ex=60)
    grown.client.hset(grown.keys.ctx(A), "expires_ms", value)
    before = grown.dump()
    with pytest.raises(Refused, match="LKCORRUPT"):
        fold(grown, staged=staged, token="t1", bytes=6)
    assert_same(before, grown.dump())


@pytest.mark.parametrize("value", ["-5", "0", "5"])
def test_what_should_be_gone_is_left_alone(grown: Shard, value: str) -> None:
    """A body with a deadline in the past would be gone at once."""
    grown.client.hset(grown.keys.ctx(A), "expires_ms", value)
    assert left_alone(grown) == [b"OK", b"0", b"0"]


@pytest.mark.parametrize("damage", [{"type": "other"}, {}])
def test_the_account_keeps_its_type(grown: Shard, damage: dict[Any, Any]) -> None:
    """What is counted under a type stays under it, whatever the hash has come to say, or no longer says."""
    if damage:
        grown.client.hset(grown.keys.ctx(A), mapping=damage)
    else:
        grown.client.hdel(grown.keys.ctx(A), "type")
    assert fold(grown)[2] == b"1"
    assert grown.client.hget(grown.keys.sizes, A) == b"6 conversation"


def test_what_is_not_counted_is_not_folded(grown: Shard) -> None:
    """Without its size the totals could not follow."""
    for size in ("many", "", "12"):
        grown.client.hset(grown.keys.sizes, A, size)
        assert left_alone(grown) == [b"OK", b"0", b"0"]
    grown.client.hdel(grown.keys.sizes, A)
    assert left_alone(grown) == [b"OK", b"0", b"0"]


@pytest.mark.parametrize("key", ["body", "segs", "sizes", "usage"])
def test_a_key_of_another_type_stops_it_before_the_first_write(grown: Shard, key: str) -> None:
    """Whatever it would have to write to is looked at first."""
    name = getattr(grown.keys, key)
    name = name if isinstance(name, str) else name(A)
    grown.client.delete(name)
    grown.client.sadd(name, "not ours")
    before = grown.dump()
    with pytest.raises(Exception, match="WRONGTYPE"):
        fold(grown)
    assert_same(before, grown.dump())


@pytest.mark.parametrize(
    "args, name",
    [({"staged": 2}, "staged"), ({"bytes": 5}, "bytes"), ({"bytes": 0}, "bytes"), ({"raw_bytes": -1}, "raw_bytes"),
     ({"level": 100}, "level"), ({"keys": True}, "keys")],
)  # fmt: skip
def test_a_malformed_argument_is_refused_by_name(grown: Shard, args: dict[str, Any], name: str) -> None:
    """What the header does not allow is refused with the name of the argument."""
    given = {"keys": {"body": grown.keys.stage("none")}} if "keys" in args else args
    before = grown.dump()
    with pytest.raises(Refused) as caught:
        fold(grown, **given)
    assert caught.value.facts == {"name": name}
    assert_same(before, grown.dump())
