"""handoff: owner, version, hop, deadline and event together.

What belongs here: one script. What does not: request ids, modes and absences, which all writers share.
"""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.shard import HOUR, Shard, context_id, told

A = context_id(1)


def refused(shard: Shard, **args: Any) -> Refused:
    """The refusal of a handoff that must change nothing."""
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.call("handoff", **{"id": A, **args})
    assert_same(before, shard.dump())
    return caught.value


def hops(shard: Shard) -> list[dict[str, str]]:
    """The hop records, oldest first."""
    found: Any = shard.client.lrange(shard.keys.hops(A), 0, -1)
    return [dict(word.split("=", 1) for word in one.decode().split(" ", 6)) for one in found]


def test_a_handoff_changes_these_keys_and_no_others(shard: Shard) -> None:
    """Metadata, hop record, event and total; body, index, order, sizes and session are untouched."""
    expires = told("preserve", shard.preserve(1))["expires_ms"].encode()
    before = shard.dump()
    reply = shard.call("handoff", id=A, note='{"why":"limit"}', previous_us=1500, request_id="r1")
    assert shard.changes(before) == {f"ctx:{A}": "~", f"hops:{A}": "+", "events": "~", "usage": "~", "req:r1": "+"}
    assert reply == [b"OK", b"0", A.encode(), b"2", b"1", expires]
    assert shard.events()[-1] == ("context.handoff", A, "2")
    assert shard.usage()["handed_off"] == 1
    fields = shard.fields(1)
    assert (fields["owner"], fields["version"], fields["seq"], fields["hops"]) == ("gpt", "2", "1", "1")
    (hop,) = hops(shard)
    assert int(fields["created_ms"]) <= int(hop.pop("at")) <= shard.now_ms()
    rest = {"hop": "1", "from": "claude", "to": "gpt", "version": "2", "previous_us": "1500"}
    assert hop == {**rest, "note": '{"why":"limit"}'}


def test_the_last_32_hops_are_kept_and_their_count_is_exact(shard: Shard) -> None:
    """After forty handoffs the list holds the last 32, the metadata says forty."""
    shard.preserve(1)
    pair = ("claude", "gpt")
    for number in range(40):
        reply = shard.call("handoff", id=A, source=pair[number % 2], destination=pair[(number + 1) % 2])
        assert reply[4] == str(number + 1).encode()
    assert [hop["hop"] for hop in hops(shard)] == [str(number) for number in range(9, 41)]
    assert shard.fields(1)["hops"] == "40"
    assert shard.fields(1)["version"] == "41"


def test_hops_end_with_their_context(shard: Shard) -> None:
    """The list of hops has the context's deadline, also when the deadline stays as it was."""
    expires = int(told("preserve", shard.preserve(1))["expires_ms"])
    shard.call("handoff", id=A)
    assert shard.deadlines(1) == {"ctx": expires, "body": expires, "segs": -2, "hops": expires, "log": -2}


def test_only_the_owner_hands_on(shard: Shard) -> None:
    """A context without an owner is anybody's; after that only its owner passes it on, and the refusal names it."""
    shard.preserve(1)
    shard.call("handoff", id=A, source="anybody", destination="gpt")
    error = refused(shard, source="claude")
    assert (error.word, error.facts) == ("LKOWNER", {"owner": "gpt"})
    assert shard.call("handoff", id=A, source="gpt", destination="claude")[0] == b"OK"


def test_another_version_is_a_conflict(shard: Shard) -> None:
    """`if_version` is compared before the owner is; the right one goes through."""
    shard.preserve(1)
    shard.call("handoff", id=A)
    error = refused(shard, if_version=1, source="nobody")
    assert (error.word, error.facts) == ("LKCONFLICT", {"actual": "2"})
    assert shard.call("handoff", id=A, if_version=2, source="gpt")[3] == b"3"


def test_a_new_time_to_live_moves_every_deadline(shard: Shard) -> None:
    """With a ttl, hash, body, segments, hops, log, index and session get one new deadline, also a shorter one."""
    shard.preserve(1)
    shard.append(1)
    shard.call("touch", id=A)
    before = shard.dump()
    expires = int(shard.call("handoff", id=A, ttl_ms=60_000)[5])
    changed = {f"{part}:{A}": "~" for part in ("ctx", "body", "segs", "log")} | {f"hops:{A}": "+"}
    assert shard.changes(before) == {**changed, **dict.fromkeys(("index", "session:session-1", "events", "usage"), "~")}
    assert shard.now_ms() < expires <= shard.now_ms() + 60_000
    assert set(shard.deadlines(1).values()) == {expires}
    assert (shard.fields(1)["expires_ms"], shard.fields(1)["ttl_ms"]) == (str(expires), "60000")
    assert not wrong_accounts(shard)


def test_without_a_time_to_live_no_session_is_needed(shard: Shard) -> None:
    """The deadline stays, so the session's list need not be known."""
    expires = told("preserve", shard.preserve(1))["expires_ms"].encode()
    assert shard.call("handoff", id=A, sid="")[5] == expires


@pytest.mark.parametrize("sid", ["", "session-2"])
def test_a_wrong_session_is_answered_with_the_right_one(shard: Shard, sid: str) -> None:
    """With a ttl the session's key must be declared; the answer names it and nothing has changed."""
    shard.preserve(1)
    before = shard.dump()
    assert shard.call("handoff", id=A, sid=sid, ttl_ms=HOUR) == [b"SESSION", b"session-1"]
    assert_same(before, shard.dump())


def test_a_context_without_a_session_is_damaged(shard: Shard) -> None:
    """There is no right session to name, so it is not asked for."""
    shard.preserve(1)
    shard.client.hdel(shard.keys.ctx(A), "session")
    assert refused(shard, ttl_ms=HOUR).facts == {"key": "ctx"}


@pytest.mark.parametrize(
    "args, name",
    [
        ({"source": ""}, "source"),
        ({"source": "a b"}, "source"),
        ({"destination": "a=b"}, "destination"),
        ({"if_version": "1.5"}, "if_version"),
        ({"ttl_ms": -1}, "ttl_ms"),
        ({"ttl_ms": "nan"}, "ttl_ms"),
        ({"previous_us": -1}, "previous_us"),
        ({"note": "x" * 1025}, "note"),
        ({"retention_ms": 0}, "retention_ms"),
    ],
)
def test_a_malformed_argument_is_refused_by_name(shard: Shard, args: dict[str, Any], name: str) -> None:
    """Providers are names, numbers are whole, a note has at most 1024 bytes."""
    shard.preserve(1)
    error = refused(shard, **args)
    assert (error.word, error.facts) == ("LKARGUMENT", {"name": name})


def test_a_note_of_1024_bytes_is_kept(shard: Shard) -> None:
    """The longest note allowed is found again, whatever is in it."""
    shard.preserve(1)
    shard.call("handoff", id=A, note="= \n" * 341 + "x")
    assert hops(shard)[0]["note"] == "= \n" * 341 + "x"


@pytest.mark.parametrize("field", ["version", "hops", "expires_ms"])
def test_a_field_that_is_no_number_is_refused(shard: Shard, field: str) -> None:
    """A hash that somebody else wrote to is left as it is."""
    shard.preserve(1)
    shard.client.hset(shard.keys.ctx(A), field, "many")
    assert refused(shard).word == "LKCORRUPT"
