"""sweep and the reasons for absences: bounded steps, one event each, and what is remembered how long.

What belongs here: `sweep`, the tombs, `LKABSENT`. What does not: eviction (`test_capacity`), repair (`test_soundness`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.shard import HOUR, Shard, context_id

A = context_id(1)


def expired(shard: Shard, count: int) -> None:
    """That many contexts past their deadline."""
    for number in range(count):
        shard.preserve(number)
    for number in range(count):
        shard.expire(number)


def absence(shard: Shard, number: int, script: str = "metadata", **args: Any) -> Mapping[str, str]:
    """Why a context is not there."""
    with pytest.raises(Refused) as caught:
        shard.call(script, id=context_id(number), **args)
    assert caught.value.word == "LKABSENT"
    return caught.value.facts


def test_sweep_takes_a_bounded_number_and_says_what_remains(shard: Shard) -> None:
    """Two a call, soonest deadline first, until none is left; then it changes nothing."""
    shard.preserve(9)
    expired(shard, 5)
    for removed, remaining in ((2, b"3"), (2, b"1"), (1, b"0")):
        before = shard.dump()
        reply = shard.call("sweep", most=2)
        assert reply[:3] == [b"OK", b"0", remaining]
        assert len(reply) == 3 + removed
        changed = shard.changes(before)
        assert changed.pop("tombs") in "+~"
        assert changed == dict.fromkeys(("index", "order", "sizes", "usage", "events"), "~")
    before = shard.dump()
    assert shard.call("sweep", most=2) == [b"OK", b"0", b"0"]
    assert_same(before, shard.dump())
    assert [event for event, _, _ in shard.events()].count("context.expire") == 5
    assert shard.usage()["entries"] == 1
    assert not wrong_accounts(shard)


@pytest.mark.parametrize("most", [0, 301, -1, "x", ""])
def test_the_bound_itself_is_bounded(shard: Shard, most: Any) -> None:
    """1 to 300 contexts a call."""
    before = shard.dump()
    with pytest.raises(Refused, match="most"):
        shard.call("sweep", most=most)
    assert_same(before, shard.dump())


def test_the_reasons_for_an_absence_differ(shard: Shard) -> None:
    """Never, dropped, expired (swept or not), evicted and lost are told apart, each with its time."""
    for number in (1, 2, 3, 4, 5):
        shard.preserve(number)
    start = shard.now_ms()
    shard.call("drop", id=context_id(1))
    shard.expire(2)
    deadline = str(int(shard.scores(shard.keys.index)[context_id(2)]))
    assert absence(shard, 2) == {"reason": "expired", "since": deadline}
    shard.call("sweep")
    assert absence(shard, 2) == {"reason": "expired", "since": deadline}
    shard.preserve(6, max_entries=3, policy="evict_oldest", more=[context_id(3)])
    shard.client.unlink(shard.keys.ctx(context_id(4)))
    told = {number: absence(shard, number) for number in (1, 3, 4, 7)}
    assert {number: facts["reason"] for number, facts in told.items()} == {
        1: "dropped",
        3: "evicted",
        4: "lost",
        7: "never",
    }
    assert start <= int(told[1]["since"]) <= shard.now_ms()
    assert told[7]["since"] == "0"


@pytest.mark.parametrize(
    "script, args",
    [
        ("restore", {}),
        ("metadata", {}),
        ("lifecycle", {}),
        ("handoff", {}),
        ("extend", {"ttl_ms": HOUR}),
        ("pin", {}),
        ("append", {}),
        ("preserve", {"ttl_ms": 0}),
        ("fold", {}),
        ("lease", {}),
        ("renew", {"lease": 1}),
        ("release", {"lease": 1}),
        ("drop", {}),
    ],
)
def test_every_script_gives_the_reason(shard: Shard, script: str, args: Mapping[str, Any]) -> None:
    """Whatever is asked of a dropped context, the answer is that it was dropped, and nothing changes."""
    shard.preserve(1)
    shard.call("drop", id=A)
    before = shard.dump()
    assert absence(shard, 1, script, **args)["reason"] == "dropped"
    assert_same(before, shard.dump())


@pytest.mark.parametrize("script", ["restore", "metadata", "lifecycle"])
def test_absent_on_a_server_that_lost_its_data_is_a_reset(shard: Shard, script: str) -> None:
    """With another marker on the record `never existed` would be a lie."""
    shard.client.delete(shard.keys.shard)
    with pytest.raises(Refused, match="LKRESET"):
        shard.call(script, id=A)
    assert absence(shard, 1, script, marker="")["reason"] == "never"


def test_the_latest_reason_counts(shard: Shard) -> None:
    """Of two reasons that are still remembered, the later one is told."""
    shard.client.zadd(shard.keys.tombs, {f"evicted:{A}": 2_000, f"dropped:{A}": 1_000, f"expired:{A}": 1_500})
    assert absence(shard, 1) == {"reason": "evicted", "since": "2000"}


def test_reasons_are_kept_for_the_grace_period(shard: Shard) -> None:
    """The key ends a grace period after the last reason, and older ones are taken out with the next."""
    shard.client.zadd(shard.keys.tombs, {"dropped:old": shard.now_ms() - 5_000, "dropped:young": shard.now_ms()})
    shard.preserve(1)
    start = shard.now_ms()
    shard.call("drop", id=A, grace_ms=4_000)
    assert set(shard.scores(shard.keys.tombs)) == {"dropped:young", f"dropped:{A}"}
    ends: Any = shard.client.pexpiretime(shard.keys.tombs)
    assert start + 4_000 <= ends <= shard.now_ms() + 4_000


@pytest.mark.parametrize("most", [1, 100, 300])
def test_no_more_reasons_are_kept_than_asked_for(shard: Shard, most: int) -> None:
    """The oldest are forgotten first, and a sweep that finds few does not forget more than it must."""
    shard.client.zadd(shard.keys.tombs, {f"dropped:{number}": shard.now_ms() - 5_000 + number for number in range(8)})
    expired(shard, 4)
    while shard.call("sweep", most=most, max_tombs=10)[3:]:
        assert len(shard.scores(shard.keys.tombs)) <= 10
    kept = {f"expired:{context_id(number)}" for number in range(4)}
    assert len(shard.scores(shard.keys.tombs)) == 10
    assert kept | {f"dropped:{number}" for number in range(2, 8)} >= set(shard.scores(shard.keys.tombs))


def test_reasons_stay_bounded_however_much_is_swept(shard: Shard) -> None:
    """A hundred thousand expirations leave as many reasons as allowed, not one more after each step."""
    now = shard.now_ms()
    ids = {context_id(number): now - 1000 for number in range(2_000)}
    shard.client.zadd(shard.keys.index, ids)
    while shard.call("sweep", most=300, max_tombs=50)[3:]:
        assert len(shard.scores(shard.keys.tombs)) <= 50


def test_what_nobody_counts_is_still_swept(shard: Shard) -> None:
    """A member of the index without a size (damaged accounts) is taken out and takes nothing off the totals."""
    shard.preserve(1)
    shard.client.zadd(shard.keys.index, {context_id(2): 1})
    assert shard.call("sweep")[3:] == [context_id(2).encode()]
    assert (shard.usage()["entries"], shard.usage()["bytes"]) == (1, 12)
