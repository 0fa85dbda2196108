"""append: one segment more, and everything that must follow it.

What belongs here: one context within its limits. What does not: capacity (`test_capacity`), request ids, modes, and
what readers get (`test_reading`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.shard import HOUR, PARTS, Shard, chained, context_id, segment, told

A = context_id(1)
ROOT = "d" * 32
NONCE = "abcdef0123456789"


def refused(shard: Shard, **args: Any) -> Refused:
    """The refusal of an append that must change nothing."""
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.append(1, **args)
    assert_same(before, shard.dump())
    return caught.value


def asked(shard: Shard, **args: Any) -> list[bytes]:
    """The answer of an append that asks for something first, and must change nothing."""
    before = shard.dump()
    reply = shard.append(1, **args)
    assert_same(before, shard.dump())
    return reply


@pytest.mark.parametrize("event, counted", [("append", "appended"), ("patch", "patched")])
def test_an_append_changes_these_keys_and_no_others(shard: Shard, event: str, counted: str) -> None:
    """The list, the hash, one transition, order, size, totals and one event; the body is not touched."""
    expires = told("preserve", shard.preserve(1))["expires_ms"]
    before = shard.dump()
    answer = told("append", shard.append(1, b"one", event=event, request_id="r1"))
    made = {f"segs:{A}": "+", f"log:{A}": "+", "req:r1": "+"}
    changed = dict.fromkeys((f"ctx:{A}", "sizes", "usage", "events"), "~")
    moved = {key: sign for key, sign in shard.changes(before).items() if key != "order"}  # equal within a millisecond
    assert moved == {**made, **changed}
    assert (answer["version"], answer["seq"], answer["expires_ms"], answer["nonce"]) == ("2", "2", expires, NONCE)
    assert answer["chain"] == chained(ROOT, segment(b"one"))
    assert shard.events()[-1] == (f"context.{event}", A, "2")
    assert (shard.usage()[counted], shard.usage()["preserved"]) == (1, 1)
    assert shard.segments(1) == [segment(b"one")]
    assert not wrong_accounts(shard)


def test_the_first_append_notes_where_the_body_stands(shard: Shard) -> None:
    """Root, shape and chain appear with it; later ones move the chain on and count, the root stays."""
    shard.preserve(1)
    plain = shard.fields(1)
    one, two = segment(b"one"), segment(b"second")
    shard.append(1, b"one", bump=0, view=f"{NONCE} 1", raw_bytes=5)
    added = {name: value for name, value in shard.fields(1).items() if name not in plain}
    sizes = {"segs": "1", "segs_bytes": str(len(one)), "segs_raw": "5"}
    assert added == {"root": ROOT, "shape": "1", "chain": chained(ROOT, one), **sizes}
    shard.append(1, b"second", raw_bytes=7)
    fields = shard.fields(1)
    assert (fields["root"], fields["chain"]) == (ROOT, chained(ROOT, one, two))
    assert (fields["segs"], fields["segs_bytes"], fields["segs_raw"]) == ("2", str(len(one) + len(two)), "12")
    assert (fields["version"], fields["seq"]) == ("3", "3")
    kept = ("nonce", "digest", "checksum", "stored_bytes", "raw_bytes", "created_ms", "expires_ms", "ttl_ms")
    assert {name: fields[name] for name in kept} == {name: plain[name] for name in kept}
    assert not wrong_accounts(shard)


def test_a_change_meets_the_shape_it_was_checked_against(shard: Shard) -> None:
    """A change that leaves types alone needs the shape of now; one that alters them makes the next shape."""
    shard.preserve(1)
    assert asked(shard, bump=0, view=f"{NONCE} 2") == [b"LOOK"]
    assert asked(shard, bump=0, view="0123456789abcdef 1") == [b"LOOK"]
    assert asked(shard, bump=0, view="") == [b"LOOK"]
    shard.append(1, bump=0, view=f"{NONCE} 1")
    shard.append(1, bump=0, view=f"{NONCE} 1")
    assert shard.fields(1)["shape"] == "1"
    shard.append(1, bump=1)
    assert shard.fields(1)["shape"] == "4"
    assert asked(shard, bump=0, view=f"{NONCE} 1") == [b"LOOK"]
    shard.append(1, bump=0, view=f"{NONCE} 4")
    shard.preserve(1)
    assert asked(shard, bump=0, view=f"{NONCE} 4") == [b"LOOK"]
    assert shard.append(1, bump=0, view=f"{NONCE} 6")[0] == b"OK"


def test_a_handoff_alters_no_shape(shard: Shard) -> None:
    """The version moves, the shape does not: a change checked before it still goes through."""
    shard.preserve(1)
    shard.call("handoff", id=A)
    assert told("append", shard.append(1, bump=0, view=f"{NONCE} 1"))["version"] == "3"


@pytest.mark.parametrize("limit", [{"max_segs": 2}, {"max_raw": 12 + 2 * 52 + 51}])
def test_too_much_is_to_be_folded_first(shard: Shard, limit: dict[str, Any]) -> None:
    """Up to the limit it is stored; beyond it the caller is asked to fold, and the fold makes room."""
    shard.preserve(1)
    for _ in range(2):
        assert shard.append(1, **limit)[0] == b"OK"
    assert asked(shard, **limit) == [b"FOLD"]
    shard.call("fold", id=A, held=shard.identity(1), payload=b"folded", raw_bytes=20)
    assert shard.append(1, **limit)[0] == b"OK"


def test_the_list_ends_with_its_context(shard: Shard) -> None:
    """Segments have the deadline of the hash after an append, a longer one, and any that moves it."""

    def one_deadline() -> int:
        found = {part: at for part, at in shard.deadlines(1).items() if at != -2}
        assert set(found) >= {"ctx", "body", "segs", "log"}
        assert set(found.values()) == {int(shard.fields(1)["expires_ms"])}
        assert not wrong_accounts(shard)
        return found["segs"]

    shard.preserve(1)
    shard.append(1)
    first = one_deadline()
    shard.append(1)
    assert one_deadline() == first
    shard.call("extend", id=A, ttl_ms=2 * HOUR)
    assert one_deadline() > first
    shard.call("handoff", id=A, ttl_ms=60_000)
    assert one_deadline() < first
    shard.call("handoff", id=A, source="gpt")
    shard.append(1, ttl_ms=3 * HOUR)
    last = one_deadline()
    assert last > first + HOUR
    shard.call("fold", id=A, held=shard.identity(1), payload=b"folded")
    assert shard.deadlines(1) == {**dict.fromkeys(PARTS, last), "segs": -2}
    shard.append(1)
    assert one_deadline() == last


def test_a_new_time_to_live_needs_the_right_session(shard: Shard) -> None:
    """The session's key must be declared; the answer names it and nothing has changed. Without a ttl none is needed."""
    shard.preserve(1)
    assert asked(shard, ttl_ms=HOUR, sid="session-2") == [b"SESSION", b"session-1"]
    assert shard.append(1, sid="")[0] == b"OK"
    before = shard.now_ms()
    expires = int(told("append", shard.append(1, ttl_ms=60_000))["expires_ms"])
    assert before + 60_000 <= expires <= shard.now_ms() + 60_000
    assert shard.scores(shard.keys.session("session-1")) == {A: expires}
    assert shard.fields(1)["ttl_ms"] == "60000"


def test_another_version_is_a_conflict(shard: Shard) -> None:
    """`if_version` counts every write, handoffs too, and the refusal names the actual one."""
    shard.preserve(1)
    shard.call("handoff", id=A)
    assert refused(shard, if_version=1).facts == {"actual": "2"}
    assert refused(shard, if_version=0).word == "LKCONFLICT"
    assert told("append", shard.append(1, if_version=2))["version"] == "3"


def test_an_append_makes_the_next_read_a_first_read(shard: Shard) -> None:
    """It is a write like any: the transition is told, and the context is the youngest in the order."""
    shard.preserve(1)
    shard.call("touch", id=A)
    shard.client.zadd(shard.keys.order, {A: 5})
    shard.append(1)
    log: Any = shard.client.lrange(shard.keys.log(A), 0, -1)
    assert [one.decode().split(" ", 1)[1] for one in log] == ["preserved restored", "restored preserved"]
    assert shard.scores(shard.keys.order) == {A: float(shard.fields(1)["updated_ms"])}


def test_a_list_left_by_others_is_not_taken_over(shard: Shard) -> None:
    """Where nothing was appended a list under the key is nobody's: it goes with the first append."""
    shard.preserve(1)
    shard.client.rpush(shard.keys.segs(A), b"stray")
    shard.append(1, b"one")
    assert shard.segments(1) == [segment(b"one")]
    assert not wrong_accounts(shard)


def test_what_is_in_its_last_millisecond_is_expired(shard: Shard) -> None:
    """A list with a deadline of now would be gone at once, and the hash would promise what is not there."""
    shard.preserve(1)
    at = shard.now_ms() - 1
    shard.client.hset(shard.keys.ctx(A), "expires_ms", str(at))
    shard.client.zadd(shard.keys.index, {A: at})
    assert refused(shard).facts == {"reason": "expired", "since": str(at)}


@pytest.mark.parametrize("missing", ["nonce", "seq", "type", "digest"])
def test_a_context_without_its_fields_is_damaged(shard: Shard, missing: str) -> None:
    """What every context has is demanded before anything is written, with a request id or without."""
    shard.preserve(1)
    shard.client.hdel(shard.keys.ctx(A), missing)
    for request_id in ("", "r1"):
        assert refused(shard, request_id=request_id).facts == {"key": "ctx"}


@pytest.mark.parametrize(
    "field", ["version", "seq", "accessed_ms", "updated_ms", "expires_ms", "raw_bytes", "stored_bytes", "segs_bytes"]
)
@pytest.mark.parametrize("value", ["abc", "1.5", str(2**63), ""])
def test_a_field_that_is_no_number_is_refused(shard: Shard, field: str, value: str) -> None:
    """A hash that somebody else wrote to is left as it is."""
    shard.preserve(1)
    shard.append(1)
    shard.client.hset(shard.keys.ctx(A), field, value)
    assert refused(shard).word == "LKCORRUPT"


@pytest.mark.parametrize("segs", ["0", "2", "-1", "1e14", "abc", "1.5"])
def test_a_list_of_another_length_is_damaged(shard: Shard, segs: str) -> None:
    """The number of segments is part of what is stored; where the list disagrees nothing is added to it."""
    shard.preserve(1)
    shard.append(1)
    if segs == "0":
        shard.client.unlink(shard.keys.segs(A))
    else:
        shard.client.hset(shard.keys.ctx(A), "segs", segs)
    assert refused(shard).word == "LKCORRUPT"


@pytest.mark.parametrize(
    "key", ["segs", "log", "hops", "body", "index", "order", "sizes", "usage", "events", "session"]
)
@pytest.mark.parametrize("ttl_ms", [0, HOUR])
def test_a_key_of_another_type_stops_it_before_the_first_write(shard: Shard, key: str, ttl_ms: int) -> None:
    """Whatever it would have to write to is looked at first."""
    shard.preserve(1)
    shard.call("handoff", id=A)
    name = {"session": shard.keys.session("session-1")}.get(key) or getattr(shard.keys, key)
    name = name if isinstance(name, str) else name(A)
    shard.client.delete(name)
    shard.client.sadd(name, "not ours")
    before = shard.dump()
    if "WRONGTYPE" in str(shard.outcome("append", id=A, ttl_ms=ttl_ms)):
        assert_same(before, shard.dump())
    else:
        assert key in ("hops", "body", "index", "session")
        assert ttl_ms == 0


@pytest.mark.parametrize(
    "args, name",
    [
        ({"event": "preserve"}, "event"),
        ({"event": ""}, "event"),
        ({"bump": 2}, "bump"),
        ({"payload": b"stored bytes"}, "payload"),
        ({"payload": b"LKSG" + b"x" * 43}, "payload"),
        ({"if_version": -2}, "if_version"),
        ({"ttl_ms": -1}, "ttl_ms"),
        ({"ttl_ms": "nan"}, "ttl_ms"),
        ({"max_segs": 0}, "max_segs"),
        ({"max_raw": "x"}, "max_raw"),
        ({"raw_bytes": 0}, "raw_bytes"),
        ({"retention_ms": 0}, "retention_ms"),
        ({"window": 0}, "window"),
        ({"keys": {"log": "lukhas:{t}:order"}}, "keys"),
    ],
)
def test_a_malformed_argument_is_refused_by_name(shard: Shard, args: Mapping[str, Any], name: str) -> None:
    """What the header does not allow is refused with the name of the argument, and nothing is stored."""
    shard.preserve(1)
    given = {**args, "keys": {"log": shard.keys.order}} if "keys" in args else args
    assert refused(shard, **given).facts == {"name": name}
