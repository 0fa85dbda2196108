"""Request ids: a repeat gets the first answer and does nothing; other arguments under the same id are refused.

What belongs here: what every script with a `@request` group promises alike. What does not: what they do otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.scripts import load
from lukhas_redis.testing import assert_same
from tests.lua.mischief import scripts_of_contexts
from tests.lua.shard import Shard, context_id, segment

A = context_id(1)
CALLS: dict[str, Mapping[str, Any]] = {
    "preserve": {},
    "handoff": {"source": "claude", "destination": "gpt"},
    "extend": {"ttl_ms": 7_200_000},
    "pin": {"pinned": 1},
    "drop": {},
    "append": {},
    "lease": {},
    "renew": {"lease": 7},
    "release": {"lease": 7},
}
WHEN_PAUSED = {"drop", "renew", "release"}
by_script = pytest.mark.parametrize("name", sorted(CALLS))


def prepare(shard: Shard, name: str) -> None:
    """A context, in its first version or the next; leased where the script needs that."""
    shard.client.hdel(shard.keys.ctx(A), "lease")
    shard.preserve(1)
    if name in ("renew", "release"):
        shard.lease(1)


def test_every_script_with_a_request_id_is_tested_here() -> None:
    """A new writer with a request id needs a row above."""
    assert {name for name in scripts_of_contexts() if "request_id" in load(name).arg_names} == set(CALLS)


@by_script
def test_a_repeat_returns_the_first_answer_and_does_nothing(shard: Shard, name: str) -> None:
    """Three repeats change nothing at all, not even a deadline, and answer word for word what the first call did."""
    prepare(shard, name)
    first = shard.call(name, id=A, request_id="r1", **CALLS[name])
    before = shard.dump()
    for _ in range(3):
        assert shard.call(name, id=A, request_id="r1", **CALLS[name]) == first
    assert_same(before, shard.dump())


@by_script
def test_a_repeat_outranks_mode_version_and_absence(shard: Shard, name: str) -> None:
    """The first answer comes also when the tenant was paused since, the version moved on, or the context is gone."""
    prepare(shard, name)
    args = {**CALLS[name], **({"if_version": 1} if "if_version" in load(name).arg_names else {})}
    first = shard.call(name, id=A, request_id="r1", **args)
    shard.client.hdel(shard.keys.ctx(A), "lease")
    if name != "drop":
        shard.call("drop", id=A)
    shard.call("set_flag", name="mode", value="paused")
    assert shard.call(name, id=A, request_id="r1", **args) == first


@by_script
def test_another_digest_under_the_same_id_is_refused(shard: Shard, name: str) -> None:
    """A request id stands for one set of arguments; nothing is changed by the second."""
    prepare(shard, name)
    shard.call(name, id=A, request_id="r1", **CALLS[name])
    prepare(shard, name)
    before = shard.dump()
    with pytest.raises(Refused) as caught:
        shard.call(name, id=A, request_id="r1", request="another digest", **CALLS[name])
    assert caught.value.word == "LKREUSED"
    assert_same(before, shard.dump())


@by_script
def test_the_record_ends_after_the_retention(shard: Shard, name: str) -> None:
    """The record has the retention as its time to live, and a repeat does not prolong it."""
    prepare(shard, name)
    start = shard.now_ms()
    shard.call(name, id=A, request_id="r1", retention_ms=90_000, **CALLS[name])
    ends: Any = shard.client.pexpiretime(shard.keys.request("r1"))
    assert start + 90_000 <= ends <= shard.now_ms() + 90_000
    shard.call(name, id=A, request_id="r1", retention_ms=90_000, durable=1, **CALLS[name])
    assert shard.client.pexpiretime(shard.keys.request("r1")) == ends


@by_script
def test_a_durable_repeat_writes_its_record_again(shard: Shard, name: str) -> None:
    """WAIT confirms nothing where nothing was written, so a durable repeat writes; an ordinary one does not."""
    prepare(shard, name)
    shard.call(name, id=A, request_id="r1", **CALLS[name])
    for durable, written in ((0, 0), (1, 1)):
        before = int(shard.client.info("persistence")["rdb_changes_since_last_save"])
        shard.call(name, id=A, request_id="r1", durable=durable, **CALLS[name])
        assert int(shard.client.info("persistence")["rdb_changes_since_last_save"]) - before == written


@by_script
def test_without_a_request_id_nothing_is_remembered(shard: Shard, name: str) -> None:
    """An operator's call leaves no record."""
    prepare(shard, name)
    shard.call(name, id=A, **CALLS[name])
    assert not [key for key in shard.dump() if b":req:" in key]


@by_script
def test_a_refusal_and_a_dry_run_are_not_remembered(shard: Shard, name: str) -> None:
    """Only what was done is remembered: the same id works after a refusal and after a dry run."""
    prepare(shard, name)
    shard.call("set_flag", name="mode", value="paused")
    if name not in WHEN_PAUSED:
        with pytest.raises(Refused, match="LKPAUSED"):
            shard.call(name, id=A, request_id="r1", **CALLS[name])
    shard.call("set_flag", name="mode", value="")
    assert shard.call(name, id=A, request_id="r1", dry=1, **CALLS[name])[1] == b"1"
    assert shard.call(name, id=A, request_id="r1", **CALLS[name])[1] == b"0"


def test_a_repeated_append_adds_one_segment(shard: Shard) -> None:
    """The first answer with its chain, one segment, one event: also when others have appended since."""
    shard.preserve(1)
    first = shard.append(1, b"one", request_id="r1")
    shard.append(1, b"two")
    for args in ({}, {"durable": 1}, {"bump": 0, "view": "stale"}, {"ttl_ms": 60_000}):
        assert shard.append(1, b"one", request_id="r1", **args) == first
    assert shard.segments(1) == [segment(b"one"), segment(b"two")]
    assert [event for event, _, _ in shard.events()] == ["context.preserve", "context.append", "context.append"]
    assert shard.usage()["appended"] == 2


def test_a_repeated_lease_gives_the_same_token(shard: Shard) -> None:
    """Whoever did not hear the answer asks again under the same request id and holds the lease."""
    shard.preserve(1)
    first = shard.call("lease", id=A, request_id="r1")
    assert shard.call("lease", id=A, request_id="r1") == first
    with pytest.raises(Refused, match="LKLEASED"):
        shard.call("lease", id=A, request_id="r2")
