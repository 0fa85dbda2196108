"""Modes, records and dry runs: what every script with a `@tenant` group promises alike.

What belongs here: live, dry_run, paused, a closed tenant, other shards, another incarnation. What does not: flags
themselves (`test_control`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.scripts import load
from lukhas_redis.testing import assert_same
from tests.lua.mischief import scripts_of_contexts
from tests.lua.shard import Shard, answer_names, chained, context_id, segment

A = context_id(1)
CALLS: dict[str, Mapping[str, Any]] = {
    "preserve": {"id": A},
    "handoff": {"id": A, "sid": "session-1", "ttl_ms": 7_200_000},
    "extend": {"id": A, "ttl_ms": 7_200_000},
    "pin": {"id": A},
    "drop": {"id": A},
    "sweep": {},
    "repair": {"more": [A, context_id(2)]},
    "append": {"id": A},
    "fold": {"id": A, "held": f"abcdef0123456789 2 {chained('d' * 32, segment(b'item'))}"},
    "lease": {"id": A},
    "renew": {"id": context_id(4), "lease": 7},
    "release": {"id": context_id(4), "lease": 7},
}
WHEN_PAUSED = {"drop", "sweep", "repair", "renew", "release"}
# What a dry answer cannot know, or (fold) has not done.
NOT_FORETOLD = {"expires_ms", "until_ms", "token", "created_ms", "folded"}
by_script = pytest.mark.parametrize("name", sorted(CALLS))


@pytest.fixture
def held(shard: Shard) -> Shard:
    """A shard with a sound context, one expired, one lost and one leased: something for every script to do."""
    for number in (1, 2, 3, 4):
        shard.preserve(number)
    shard.append(1)
    shard.lease(4)
    shard.client.unlink(shard.keys.body(context_id(2)))
    shard.expire(3)
    return shard


def refused(shard: Shard, name: str, **args: Any) -> Refused:
    """The refusal of a call that must change nothing."""
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.call(name, **{**CALLS[name], **args})
    assert_same(before, shard.dump())
    return caught.value


def test_every_script_that_obeys_the_tenant_is_tested_here() -> None:
    """A new script with a `@tenant` group needs a row above."""
    assert {name for name in scripts_of_contexts() if "shards" in load(name).arg_names} - {"open"} == set(CALLS)


@by_script
def test_a_dry_run_changes_nothing_and_answers_as_live_would(held: Shard, name: str) -> None:
    """The dry answer is marked and otherwise that of the live call that follows, deadlines aside."""
    before = held.dump()
    dry = held.call(name, dry=1, **CALLS[name])
    assert_same(before, held.dump())
    live = held.call(name, **CALLS[name])
    assert (dry[:2], live[:2]) == ([b"OK", b"1"], [b"OK", b"0"])
    skip = (
        {place for place, word in enumerate(answer_names(name)) if word in NOT_FORETOLD} if name != "release" else set()
    )
    assert len(dry) == len(live)
    assert [word for place, word in enumerate(dry[2:], 2) if place not in skip] == [
        word for place, word in enumerate(live[2:], 2) if place not in skip
    ]
    assert held.changes(before)


@by_script
@pytest.mark.parametrize("how", ["flag", "first mode"])
def test_a_tenant_in_dry_run_is_never_written_to(held: Shard, name: str, how: str) -> None:
    """The tenant's mode makes every call dry, from the flag or, without one, from the mode it starts in."""
    if how == "flag":
        held.call("set_flag", name="mode", value="dry_run")
    before = held.dump()
    mode = "live" if how == "flag" else "dry_run"
    assert held.call(name, mode=mode, **CALLS[name])[:2] == [b"OK", b"1"]
    assert_same(before, held.dump())


@by_script
def test_a_flag_outranks_the_first_mode(held: Shard, name: str) -> None:
    """Once the tenant has a mode, the caller's settings no longer matter."""
    held.call("set_flag", name="mode", value="live")
    assert held.call(name, mode="dry_run", **CALLS[name])[:2] == [b"OK", b"0"]


@by_script
def test_paused_refuses_writes_and_lets_room_be_made(held: Shard, name: str) -> None:
    """Paused refuses what adds or changes; what makes room, and who holds a lease, still can."""
    held.call("set_flag", name="mode", value="paused")
    if name in WHEN_PAUSED:
        assert held.call(name, **CALLS[name])[:2] == [b"OK", b"0"]
    else:
        assert refused(held, name).word == "LKPAUSED"


@by_script
def test_a_tenant_without_a_record_is_closed(held: Shard, name: str) -> None:
    """Without a record nothing is written; a dry run needs none."""
    held.client.delete(held.keys.shard)
    assert refused(held, name, marker="", shards="").word == "LKCLOSED"
    assert held.call(name, marker="", shards="", dry=1, **CALLS[name])[1] == b"1"


@by_script
def test_another_number_of_shards_is_refused(held: Shard, name: str) -> None:
    """A caller that believes in other shards is told how many there are; one that believes nothing is served."""
    error = refused(held, name, shards=2)
    assert (error.word, error.facts) == ("LKSHARDS", {"shards": "1"})
    assert held.call(name, shards="", **CALLS[name])[0] == b"OK"


@by_script
def test_another_incarnation_of_the_data_is_refused(held: Shard, name: str) -> None:
    """A marker that is not the record's means that the server lost its data since."""
    assert refused(held, name, marker="0ther").word == "LKRESET"
    held.client.delete(held.keys.shard)
    assert refused(held, name).word == "LKRESET"


@by_script
def test_a_damaged_record_is_called_so(held: Shard, name: str) -> None:
    """A number of shards that is none is not passed on as a fact."""
    held.client.hset(held.keys.shard, "shards", "a few")
    assert refused(held, name).word == "LKCORRUPT"


def test_a_large_payload_stays_at_home_in_a_dry_run(shard: Shard) -> None:
    """With only the header of the payload, a dry run answers and a live call asks for the bytes."""
    args: dict[str, Any] = {"id": A, "staged": 2, "payload": b"head", "bytes": 5_000_000}
    before = shard.dump()
    assert shard.call("preserve", dry=1, **args)[:2] == [b"OK", b"1"]
    assert shard.call("preserve", **args) == [b"LIVE"]
    assert_same(before, shard.dump())


def test_a_dry_run_does_not_need_its_stage(shard: Shard) -> None:
    """A payload staged ahead by a caller who did not know of the dry run is left to expire."""
    shard.client.set(shard.keys.stage("t1"), b"headbody", ex=60)
    before = shard.dump()
    shard.call("preserve", id=A, dry=1, staged=1, token="t1", payload=b"head", bytes=8)
    assert_same(before, shard.dump())
