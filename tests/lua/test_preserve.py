"""preserve: what it stores, what it replaces, what it refuses.

What belongs here: one context within its limits. What does not: capacity (`test_capacity`), request ids, modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.shard import HOUR, MARKER, PARTS, Shard, context_id, told

A, B = context_id(1), context_id(2)
NEW_KEYS = {f"ctx:{A}": "+", f"body:{A}": "+", "index": "+", "order": "+", "sizes": "+", "usage": "+", "events": "+"}


def refused(shard: Shard, **args: Any) -> Refused:
    """The refusal of a preserve that must change nothing."""
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.call("preserve", **{"id": A, **args})
    assert_same(before, shard.dump())
    return caught.value


def test_the_first_preserve_makes_these_keys_and_no_others(shard: Shard) -> None:
    """A new context is its hash and body, and a line in each account; no hops, no log, no reason for an absence."""
    before = shard.dump()
    reply = shard.preserve(1, request_id="r1")
    assert shard.changes(before) == {**NEW_KEYS, "session:session-1": "+", "req:r1": "+"}
    answer, fields = told("preserve", reply), shard.fields(1)
    assert {name: answer.pop(name) for name in ("OK", "dry", "id", "evicted")} == {
        "OK": "OK",
        "dry": "0",
        "id": A,
        "evicted": "0",
    }
    assert answer == {name: fields[name] for name in answer}
    assert answer.keys() == {"version", "expires_ms", "nonce", "seq", "created_ms"}
    assert shard.events() == [("context.preserve", A, "1")]
    assert not wrong_accounts(shard)


def test_the_metadata_is_what_was_given(shard: Shard) -> None:
    """Every argument that describes the context is found in its hash, and times are the server's."""
    before = shard.now_ms()
    expires = int(told("preserve", shard.preserve(1, raw_bytes=99, level=9))["expires_ms"])
    fields = shard.fields(1)
    created = int(fields["created_ms"])
    assert before <= created <= shard.now_ms()
    assert fields == {
        "version": "1",
        "seq": "1",
        "nonce": "abcdef0123456789",
        "session": "session-1",
        "type": "conversation",
        "ttl_ms": str(HOUR),
        "raw_bytes": "99",
        "stored_bytes": "12",
        "level": "9",
        "checksum": "c" * 64,
        "digest": "d" * 32,
        "created_ms": str(created),
        "updated_ms": str(created),
        "expires_ms": str(expires),
    }
    assert expires == created + HOUR
    assert shard.client.get(shard.keys.body(A)) == b"stored bytes"


def test_every_key_of_a_context_has_one_deadline(shard: Shard) -> None:
    """Hash, body, hops and log end at the millisecond that the index and the session's list name."""
    shard.preserve(1)
    shard.call("handoff", id=A)
    shard.call("touch", id=A)
    expires = int(told("preserve", shard.preserve(1, ttl_ms=2 * HOUR))["expires_ms"])
    assert shard.deadlines(1) == {**dict.fromkeys(PARTS, expires), "segs": -2}
    assert shard.scores(shard.keys.index) == {A: expires}
    assert shard.scores(shard.keys.session("session-1")) == {A: expires}


def test_a_second_preserve_replaces_the_first(shard: Shard) -> None:
    """Version and sequence grow by one, nonce and creation stay, the totals count the new bytes only."""
    first = told("preserve", shard.preserve(1))
    second = told("preserve", shard.preserve(1, payload=b"longer stored bytes", nonce="ffff"))
    assert (second["version"], second["created_ms"], second["nonce"]) == ("2", first["created_ms"], first["nonce"])
    assert shard.fields(1)["seq"] == "2"
    assert {name: shard.usage()[name] for name in ("entries", "bytes", "preserved")} == {
        "entries": 1,
        "bytes": 19,
        "preserved": 2,
    }
    log: Any = shard.client.lrange(shard.keys.log(A), 0, -1)
    assert [one.decode().split(" ", 1)[1] for one in log] == ["preserved preserved"]


@pytest.mark.parametrize("event, counted", [("append", "appended"), ("patch", "patched")])
def test_a_change_written_whole_keeps_the_deadline(shard: Shard, event: str, counted: str) -> None:
    """An append or patch that came as a whole has its own event and total, and moves no deadline without a ttl."""
    expires = told("preserve", shard.preserve(1))["expires_ms"]
    answer = told("preserve", shard.preserve(1, event=event, ttl_ms=0, if_version=1))
    assert (answer["version"], answer["expires_ms"]) == ("2", expires)
    assert shard.fields(1)["ttl_ms"] == str(HOUR)
    assert shard.events()[-1] == (f"context.{event}", A, "2")
    assert (shard.usage()[counted], shard.usage()["preserved"]) == (1, 1)
    assert not wrong_accounts(shard)


def test_keeping_the_deadline_needs_a_context(shard: Shard) -> None:
    """Without a time to live nothing new can be made: what is not there is absent, with the reason."""
    assert (refused(shard, ttl_ms=0).word, refused(shard, ttl_ms=0).facts["reason"]) == ("LKABSENT", "never")
    shard.preserve(1)
    shard.call("drop", id=A)
    assert refused(shard, ttl_ms=0).facts["reason"] == "dropped"


def test_writing_the_whole_ends_what_was_appended(shard: Shard) -> None:
    """The list and its fields are gone, the totals count the new bytes alone, and the sequence goes on."""
    shard.preserve(1)
    shard.append(1)
    before = shard.dump()
    answer = told("preserve", shard.preserve(1))
    assert (answer["version"], answer["seq"]) == ("3", "3")
    assert shard.changes(before)[f"segs:{A}"] == "-"
    assert not {"shape", "root", "chain", "segs", "segs_bytes", "segs_raw"} & shard.fields(1).keys()
    assert shard.usage()["bytes"] == 12
    assert not wrong_accounts(shard)


def test_a_preserve_may_change_the_type_but_keeps_owner_and_hops(shard: Shard) -> None:
    """The share of the old type goes to the new one; what handoffs left stays, with the new deadline."""
    shard.preserve(1)
    shard.call("handoff", id=A)
    shard.preserve(1, type="job", ttl_ms=2 * HOUR)
    assert {name: n for name, n in shard.usage().items() if name.startswith("entries:")} == {"entries:job": 1}
    assert (shard.fields(1)["owner"], shard.fields(1)["hops"], shard.fields(1)["version"]) == ("gpt", "1", "3")
    assert not wrong_accounts(shard)


def test_a_dropped_context_leaves_nothing_to_its_successor(shard: Shard) -> None:
    """Under the same id a new incarnation starts at version 1, without owner, hops, log; its reason is lifted."""
    shard.preserve(1)
    shard.call("handoff", id=A)
    shard.call("touch", id=A)
    shard.append(1)
    token = told("lease", shard.call("lease", id=A))["token"]
    shard.call("drop", id=A, lease=token)
    assert shard.scores(shard.keys.tombs).keys() == {f"dropped:{A}"}
    answer = told("preserve", shard.preserve(1, nonce="0123456789abcdef"))
    assert (answer["version"], answer["seq"], answer["nonce"]) == ("1", "1", "0123456789abcdef")
    assert not {"owner", "hops", "accessed_ms", "lease", "lease_owner", "shape", "segs"} & shard.fields(1).keys()
    assert [shard.deadlines(1)[part] for part in ("segs", "hops", "log")] == [-2, -2, -2]
    assert shard.scores(shard.keys.tombs) == {}


@pytest.mark.parametrize("left", PARTS)
def test_what_an_expired_context_leaves_is_swept_away(shard: Shard, left: str) -> None:
    """Parts that outlive a context (deleted by hand) do not become parts of the next one under its id."""
    shard.preserve(1)
    shard.call("handoff", id=A)
    shard.call("touch", id=A)
    shard.append(1)
    shard.client.hset(shard.keys.ctx(A), mapping={"expires_ms": "1", "owner": "somebody", "lease": "1 9999999999999"})
    for part in set(PARTS) - {left}:
        shard.client.unlink(getattr(shard.keys, part)(A))
    shard.client.zadd(shard.keys.index, {A: 1})
    answer = told("preserve", shard.preserve(1, nonce="0123456789abcdef"))
    assert (answer["version"], answer["seq"], answer["nonce"]) == ("1", "1", "0123456789abcdef")
    assert not {"owner", "lease", "shape", "chain", "segs"} & shard.fields(1).keys()
    assert [shard.deadlines(1)[part] for part in ("segs", "hops", "log")] == [-2, -2, -2]
    assert [event for event, _, _ in shard.events()][-2:] == ["context.expire", "context.preserve"]
    assert not wrong_accounts(shard)


def test_a_context_lost_before_its_deadline_is_told(shard: Shard) -> None:
    """Keys deleted by hand are counted as lost when the id is used again, and the accounts stay exact."""
    shard.preserve(1)
    shard.client.unlink(shard.keys.ctx(A), shard.keys.body(A))
    assert told("preserve", shard.preserve(1))["version"] == "1"
    assert [event for event, _, _ in shard.events()] == ["context.preserve", "context.lose", "context.preserve"]
    assert shard.usage()["lost"] == 1
    assert not wrong_accounts(shard)


@pytest.mark.parametrize("stored, given, actual", [(0, 1, "0"), (1, 0, "1"), (1, 2, "1"), (2, 1, "2")])
def test_another_version_is_a_conflict(shard: Shard, stored: int, given: int, actual: str) -> None:
    """`if_version` is compared with what is stored, 0 stands for nothing, and the refusal names the actual one."""
    for _ in range(stored):
        shard.preserve(1)
    error = refused(shard, if_version=given)
    assert (error.word, error.facts) == ("LKCONFLICT", {"actual": actual})


@pytest.mark.parametrize("version", [0, 1, 2])
def test_the_right_version_is_accepted(shard: Shard, version: int) -> None:
    """Each of three writes under the version it saw goes through."""
    for expected in range(version + 1):
        assert told("preserve", shard.preserve(1, if_version=expected))["version"] == str(expected + 1)


def test_another_session_is_refused(shard: Shard) -> None:
    """An id belongs to its session; with the context gone another session may take it."""
    shard.preserve(1)
    assert refused(shard, sid="session-2").word == "LKSESSION"
    shard.call("drop", id=A)
    assert shard.preserve(1, sid="session-2")[0] == b"OK"


def test_a_session_lists_its_contexts_until_the_last_deadline_and_grace(shard: Shard) -> None:
    """The list outlives its last context by the grace period, and never ends earlier because a shorter one came."""
    last = int(told("preserve", shard.preserve(1, ttl_ms=2 * HOUR, grace_ms=1000))["expires_ms"])
    shard.preserve(2, ttl_ms=HOUR, grace_ms=1000)
    key = shard.keys.session("session-1")
    assert set(shard.scores(key)) == {A, B}
    assert shard.client.pexpiretime(key) == last + 1000


def test_gone_members_of_a_session_are_taken_out_a_few_at_a_time(shard: Shard) -> None:
    """Each preserve removes up to four members whose deadline has passed."""
    key = shard.keys.session("session-1")
    shard.client.zadd(key, {f"gone-{number}": number for number in range(6)})
    shard.preserve(1)
    assert set(shard.scores(key)) == {"gone-4", "gone-5", A}


STAGE: Mapping[str, Any] = {"staged": 1, "token": "t1", "payload": b"head", "bytes": 8}


def test_a_staged_payload_becomes_the_body(shard: Shard) -> None:
    """The staged bytes are moved, not copied, and get the context's deadline."""
    shard.client.set(shard.keys.stage("t1"), b"headbody", ex=60)
    expires = int(told("preserve", shard.preserve(1, **STAGE))["expires_ms"])
    assert shard.client.get(shard.keys.body(A)) == b"headbody"
    assert not shard.client.exists(shard.keys.stage("t1"))
    assert shard.deadlines(1)["body"] == expires
    assert not wrong_accounts(shard)


@pytest.mark.parametrize("staged", [None, b"headbod", b"headbody!", b"HEADbody", b""])
def test_a_stage_that_is_not_ours_is_refused(shard: Shard, staged: bytes | None) -> None:
    """Vanished, short, long, swapped or empty: nothing is stored, and the stage is left to expire."""
    if staged is not None:
        shard.client.set(shard.keys.stage("t1"), staged, ex=60)
    assert refused(shard, **STAGE).word == "LKSTAGE"


@pytest.mark.parametrize(
    "args, name",
    [
        ({"bytes": 11}, "bytes"),
        ({"bytes": 13}, "bytes"),
        ({"payload": b"", "bytes": 0}, "bytes"),
        ({"staged": 1, "payload": b"", "bytes": 0}, "bytes"),
        ({"staged": 3}, "staged"),
        ({"staged": ""}, "staged"),
        ({"ttl_ms": -1}, "ttl_ms"),
        ({"ttl_ms": 31_536_000_001}, "ttl_ms"),
        ({"ttl_ms": "1.5"}, "ttl_ms"),
        ({"ttl_ms": "nan"}, "ttl_ms"),
        ({"ttl_ms": "inf"}, "ttl_ms"),
        ({"ttl_ms": str(2**63)}, "ttl_ms"),
        ({"ttl_ms": ""}, "ttl_ms"),
        ({"if_version": -2}, "if_version"),
        ({"if_version": "x"}, "if_version"),
        ({"raw_bytes": -1}, "raw_bytes"),
        ({"level": 100}, "level"),
        ({"type": "a b"}, "type"),
        ({"type": ""}, "type"),
        ({"event": ""}, "event"),
        ({"event": "drop"}, "event"),
        ({"policy": "none"}, "policy"),
        ({"max_entries": "many"}, "max_entries"),
        ({"window": 0}, "window"),
        ({"grace_ms": 0}, "grace_ms"),
        ({"max_tombs": 0}, "max_tombs"),
        ({"retention_ms": 0}, "retention_ms"),
    ],
)
def test_a_malformed_argument_is_refused_by_name(shard: Shard, args: Mapping[str, Any], name: str) -> None:
    """What the header does not allow is refused with the name of the argument, and nothing is stored."""
    error = refused(shard, **args)
    assert (error.word, error.facts) == ("LKARGUMENT", {"name": name})


def test_a_key_given_twice_is_refused(shard: Shard) -> None:
    """The same key in two places would break a write half way, so it is refused at once."""
    shard.preserve(2)
    error = refused(shard, keys={"log": shard.keys.hops(A)})
    assert (error.word, error.facts) == ("LKARGUMENT", {"name": "keys"})


@pytest.mark.parametrize("key", ["order", "index", "sizes", "usage", "tombs", "events", "flags", "shard"])
def test_a_key_of_another_type_stops_it_before_the_first_write(shard: Shard, key: str) -> None:
    """Whichever account holds something else, nothing is written to the others."""
    name = getattr(shard.keys, key)
    shard.client.delete(name)
    shard.client.sadd(name, "not ours")
    before = shard.dump()
    with pytest.raises(Exception, match="WRONGTYPE"):
        shard.preserve(1)
    assert_same(before, shard.dump())


def test_the_test_shard_is_opened_under_its_marker(shard: Shard) -> None:
    """What the tests believe of the shard's record is so."""
    assert shard.client.hget(shard.keys.shard, "marker") == MARKER.encode()


def test_a_type_that_nobody_uses_any_more_leaves_no_total(shard: Shard) -> None:
    """Types are the callers' words, so a thousand of them come and go without a trace in the totals."""
    for number in range(20):
        shard.preserve(1, type=f"type-{number}")
    assert {name for name in shard.usage() if name.startswith("entries:")} == {"entries:type-19"}
