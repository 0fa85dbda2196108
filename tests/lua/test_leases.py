"""lease, renew, release, and what every writer does about them.

What belongs here: tokens, who is refused. What does not: request ids and modes, which all writers share.
"""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.scripts import load, script_names
from lukhas_redis.testing import assert_same
from tests.lua.shard import HOUR, Shard, context_id, told

A, B = context_id(1), context_id(2)
# Every script that takes a token, besides the three of this file.
WRITES: dict[str, dict[str, Any]] = {
    "preserve": {},
    "append": {},
    "handoff": {},
    "extend": {"ttl_ms": 2 * HOUR},
    "pin": {},
    "drop": {},
}
by_write = pytest.mark.parametrize("name", sorted(WRITES))


def lease(shard: Shard, number: int = 1, **args: Any) -> dict[str, str]:
    """Lease a context."""
    return told("lease", shard.call("lease", id=context_id(number), **args))


def refused(shard: Shard, name: str, **args: Any) -> Refused:
    """The refusal of a call that must change nothing."""
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.call(name, **{"id": A, **args})
    assert_same(before, shard.dump())
    return caught.value


def lapse(shard: Shard) -> None:
    """Let the lease of context 1 have ended a millisecond ago."""
    token = shard.fields(1)["lease"].split()[0]
    shard.client.hset(shard.keys.ctx(A), "lease", f"{token} {shard.now_ms() - 1}")


def test_every_script_that_takes_a_token_is_tested_here() -> None:
    """A new writer of contexts needs a row above."""
    taking = {name for name in script_names() if "lease" in load(name).arg_names}
    assert taking - {"renew", "release"} == set(WRITES)


def test_a_lease_changes_these_keys_and_no_others(shard: Shard) -> None:
    """Two fields, the shard's counter and one event; version, data, deadlines and accounts stay."""
    shard.preserve(1)
    before, start = shard.dump(), shard.now_ms()
    answer = lease(shard, request_id="r1", lease_ms=5_000, owner="ann")
    assert shard.changes(before) == {f"ctx:{A}": "~", "shard": "~", "events": "~", "req:r1": "+"}
    assert (answer["id"], answer["owner"]) == (A, "ann")
    assert start + 5_000 <= int(answer["until_ms"]) <= shard.now_ms() + 5_000
    fields = shard.fields(1)
    assert (fields["lease"], fields["lease_owner"]) == (f"{answer['token']} {answer['until_ms']}", "ann")
    assert shard.client.hget(shard.keys.shard, "fence") == answer["token"].encode()
    assert shard.events()[-1] == ("context.lease", A, "1")


def test_only_one_holds_it(shard: Shard) -> None:
    """A second lease is refused with owner and end, for the same owner too; a lapsed or released one is free."""
    shard.preserve(1)
    first = lease(shard, owner="ann")
    for owner in ("bob", "ann"):
        error = refused(shard, "lease", owner=owner)
        assert (error.word, error.facts) == ("LKLEASED", {"owner": "ann", "until": first["until_ms"]})
    lapse(shard)
    second = lease(shard, owner="bob")
    shard.call("release", id=A, lease=second["token"])
    third = lease(shard, owner="ann")
    assert int(first["token"]) < int(second["token"]) < int(third["token"])


@by_write
def test_while_a_lease_lives_only_its_token_writes(shard: Shard, name: str) -> None:
    """Without a token the writer is told who holds it, with another that it is fenced off; the live one writes."""
    shard.preserve(1)
    token = lease(shard, owner="ann")["token"]
    error = refused(shard, name, **WRITES[name])
    assert (error.word, error.facts["owner"]) == ("LKLEASED", "ann")
    for other in (str(int(token) + 1), str(int(token) - 1), "0" + token, "x"):
        error = refused(shard, name, lease=other, **WRITES[name])
        assert (error.word, error.facts) == ("LKFENCED", {"token": other if other.isdigit() else "?"})
    assert shard.call(name, id=A, lease=token, **WRITES[name])[0] == b"OK"


@by_write
def test_a_token_that_lapsed_never_writes(shard: Shard, name: str) -> None:
    """Also when nobody took over; whoever holds no token writes again, as if there had been no lease."""
    shard.preserve(1)
    token = lease(shard)["token"]
    lapse(shard)
    assert refused(shard, name, lease=token, **WRITES[name]).word == "LKFENCED"
    assert shard.call(name, id=A, **WRITES[name])[0] == b"OK"


@by_write
def test_a_token_on_a_context_without_a_lease_is_fenced(shard: Shard, name: str) -> None:
    """Released, or dropped and made again: a late writer with the old token is refused all the same."""
    shard.preserve(1)
    token = lease(shard)["token"]
    shard.call("drop", id=A, lease=token)
    shard.preserve(1)
    assert refused(shard, name, lease=token, **WRITES[name]).word == "LKFENCED"


@by_write
@pytest.mark.parametrize(
    "garbage", ["", "abc", "7", "7 ", " 7 99999999999999", "-7 99999999999999", "7 9e30", "7 -1", "nan nan"]
)
def test_a_lease_that_is_none_holds_nobody_up(shard: Shard, name: str, garbage: str) -> None:
    """What was written by hand is no live lease, so it neither blocks nor lets a token through."""
    shard.preserve(1)
    shard.client.hset(shard.keys.ctx(A), "lease", garbage)
    assert refused(shard, name, lease="7", **WRITES[name]).word == "LKFENCED"
    assert shard.call(name, id=A, **WRITES[name])[0] == b"OK"


def test_a_lease_outlives_the_writes_under_it(shard: Shard) -> None:
    """Preserve, append and handoff keep it; a fold needs no token and keeps it, too."""
    shard.preserve(1)
    token = lease(shard)["token"]
    held = shard.fields(1)["lease"]
    for name in ("preserve", "append", "handoff"):
        shard.call(name, id=A, lease=token)
    shard.call("fold", id=A, held=shard.identity(1), payload=b"folded")
    assert shard.fields(1)["lease"] == held


def test_reading_needs_no_token(shard: Shard) -> None:
    """Restore, metadata, lifecycle and touch go on."""
    shard.preserve(1)
    lease(shard)
    for name in ("restore", "metadata", "lifecycle", "touch"):
        assert shard.call(name, id=A)


@pytest.mark.parametrize("name", ["renew", "release"])
def test_only_the_live_token_renews_and_releases(shard: Shard, name: str) -> None:
    """Another, a lapsed or a released one is fenced; none at all is a mistake in the call."""
    shard.preserve(1)
    token = lease(shard)["token"]
    assert refused(shard, name, lease=int(token) + 1).word == "LKFENCED"
    assert refused(shard, name, lease="").facts == {"name": "lease"}
    assert refused(shard, name, lease="x").facts == {"name": "lease"}
    lapse(shard)
    assert refused(shard, name, lease=token).word == "LKFENCED"
    token = lease(shard)["token"]
    shard.call("release", id=A, lease=token)
    assert refused(shard, name, lease=token).word == "LKFENCED"


def test_renew_moves_the_end_and_nothing_else(shard: Shard) -> None:
    """Later or sooner, under the same token and owner, without an event."""
    shard.preserve(1)
    first = lease(shard, owner="ann", lease_ms=60_000)
    for lease_ms in (120_000, 1_000):
        before, start = shard.dump(), shard.now_ms()
        answer = told("renew", shard.call("renew", id=A, lease=first["token"], lease_ms=lease_ms))
        assert shard.changes(before) == {f"ctx:{A}": "~"}
        assert (answer["token"], answer["owner"]) == (first["token"], "ann")
        assert start + lease_ms <= int(answer["until_ms"]) <= shard.now_ms() + lease_ms
        assert shard.fields(1)["lease"] == f"{first['token']} {answer['until_ms']}"


def test_release_takes_both_fields_away(shard: Shard) -> None:
    """One event, and nobody is held up any more."""
    shard.preserve(1)
    plain = shard.fields(1)
    token = lease(shard)["token"]
    before = shard.dump()
    assert told("release", shard.call("release", id=A, lease=token))["token"] == token
    assert shard.changes(before) == {f"ctx:{A}": "~", "events": "~"}
    assert shard.fields(1) == plain
    assert shard.events()[-1] == ("context.release", A, "1")


def test_tokens_only_grow(shard: Shard) -> None:
    """Within a millisecond, over contexts, drops and a lost counter: each is larger than all before."""
    tokens = []
    for number in range(50):
        shard.preserve(number)
        tokens.append(int(lease(shard, number)["token"]))
    shard.call("drop", id=context_id(0), lease=tokens[0])
    shard.preserve(0)
    tokens.append(int(lease(shard, 0)["token"]))
    while shard.now_ms() <= tokens[-1]:
        pass
    shard.client.hdel(shard.keys.shard, "fence")
    shard.preserve(60)
    tokens.append(int(lease(shard, 60)["token"]))
    assert tokens == sorted(set(tokens))


def test_two_leases_in_one_millisecond_get_different_tokens(shard: Shard) -> None:
    """The counter may run ahead of the clock: a clock that went back changes nothing."""
    shard.preserve(1)
    shard.preserve(2)
    ahead = shard.now_ms() + HOUR
    shard.client.hset(shard.keys.shard, "fence", str(ahead))
    assert [int(lease(shard, number)["token"]) for number in (1, 2)] == [ahead + 1, ahead + 2]


def test_a_counter_that_is_no_number_is_damaged(shard: Shard) -> None:
    """Nothing is leased rather than a token given out twice."""
    shard.preserve(1)
    shard.client.hset(shard.keys.shard, "fence", "many")
    assert refused(shard, "lease").facts == {"key": "shard"}


@pytest.mark.parametrize("name", ["lease", "renew", "release"])
@pytest.mark.parametrize("fate", ["never", "dropped"])
def test_what_is_not_there_cannot_be_leased(shard: Shard, name: str, fate: str) -> None:
    """The answer is the reason for its absence."""
    if fate == "dropped":
        shard.preserve(1)
        shard.call("drop", id=A)
    assert refused(shard, name, lease=7).facts["reason"] == fate


@pytest.mark.parametrize(
    "name, args, wrong",
    [("lease", {"owner": "a b"}, "owner"), ("lease", {"owner": ""}, "owner"), ("lease", {"lease_ms": 0}, "lease_ms"),
     ("lease", {"lease_ms": "nan"}, "lease_ms"), ("lease", {"window": 0}, "window"),
     ("renew", {"lease_ms": 31_536_000_001}, "lease_ms"), ("renew", {"retention_ms": 0}, "retention_ms"),
     ("release", {"retention_ms": "x"}, "retention_ms"), ("release", {"grace_ms": 0}, "grace_ms")],
)  # fmt: skip
def test_a_malformed_argument_is_refused_by_name(shard: Shard, name: str, args: dict[str, Any], wrong: str) -> None:
    """What the header does not allow is refused with the name of the argument."""
    shard.preserve(1)
    assert refused(shard, name, **{"lease": 7, **args}).facts == {"name": wrong}
