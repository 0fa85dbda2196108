"""check, repair and recount: finding what somebody did to the keys by hand, and putting it right.

What belongs here: each fault, found and repaired. What does not: going over a whole tenant (`lukhas_redis.ops`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.shard import Shard, context_id

A, B = context_id(1), context_id(2)
Damage = Callable[[Shard], Any]

FAULTS: list[tuple[str, Damage]] = [
    ("lost", lambda s: s.client.unlink(s.keys.ctx(A))),
    ("lost", lambda s: s.client.unlink(s.keys.body(A))),
    ("lost", lambda s: s.client.unlink(s.keys.ctx(A), s.keys.body(A))),
    ("unindexed", lambda s: s.client.zrem(s.keys.index, A)),
    ("uncounted", lambda s: s.client.hdel(s.keys.sizes, A)),
    ("uncounted", lambda s: s.client.hset(s.keys.sizes, A, "999 conversation")),
    ("uncounted", lambda s: s.client.hset(s.keys.sizes, A, "many")),
    ("deadline", lambda s: s.client.persist(s.keys.ctx(A))),
    ("deadline", lambda s: s.client.pexpire(s.keys.body(A), 99_000)),
    ("unordered", lambda s: s.client.zrem(s.keys.order, A)),
    ("unordered", lambda s: s.client.hset(s.keys.ctx(A), "pinned", "1")),
    ("deadline", lambda s: s.client.persist(s.keys.segs(A))),
]
# The data itself is damaged: what was appended cannot be made up by a repair.
GONE: list[Damage] = [
    lambda s: s.client.unlink(s.keys.segs(A)),
    lambda s: s.client.rpop(s.keys.segs(A)),
    lambda s: s.client.rpush(s.keys.segs(A), b"more"),
    lambda s: s.client.hset(s.keys.ctx(A), "segs", "many"),
    lambda s: s.client.hset(s.keys.ctx(A), "segs", "-2"),
]
by_fault = pytest.mark.parametrize("fault, damage", FAULTS)


@pytest.fixture
def held(shard: Shard) -> Shard:
    """Two sound contexts, with and without segments; what they fill is 12 + 2 * 52 and 12 bytes."""
    shard.preserve(1)
    shard.preserve(2)
    for _ in range(2):
        shard.append(1)
    return shard


@by_fault
def test_every_fault_is_found_and_nothing_else(held: Shard, fault: str, damage: Damage) -> None:
    """Check names the fault of the damaged context, none for the sound one, and changes nothing."""
    assert held.call("check", more=[A, B]) == []
    damage(held)
    before = held.dump()
    assert held.call("check", more=[A, B]) == [A.encode(), fault.encode()]
    assert_same(before, held.dump())


@by_fault
def test_every_fault_is_repaired(held: Shard, fault: str, damage: Damage) -> None:
    """After repair and recount nothing is wrong, and the sound context is as it was."""
    damage(held)
    sound = {key: one for key, one in held.dump().items() if B.encode() in key}
    assert held.call("repair", more=[A, B]) == [b"OK", b"0", A.encode(), fault.encode()]
    held.call("recount")
    assert held.call("check", more=[A, B]) == []
    assert not wrong_accounts(held)
    assert {key: one for key, one in held.dump().items() if B.encode() in key} == sound
    assert held.call("recount", dry=1) == [b"0", b"0"]


@pytest.mark.parametrize("damage", GONE)
def test_missing_segments_are_found_and_never_made_up(held: Shard, damage: Damage) -> None:
    """Check names the fault, repair leaves the data and its account alone; writing the whole, or a drop, ends it."""
    damage(held)
    before = held.dump()
    assert held.call("check", more=[A, B]) == [A.encode(), b"segments"]
    sums = {name: held.usage()[name] for name in ("bytes", "entries", "entries:conversation")}
    assert held.call("repair", more=[A, B]) == [b"OK", b"0", A.encode(), b"segments"]
    assert held.changes(before).keys() <= {"usage"}
    assert {name: held.usage()[name] for name in sums} == sums
    with pytest.raises(Refused, match="LKCORRUPT"):
        held.append(1)
    held.preserve(1)
    assert held.call("check", more=[A, B]) == []
    assert not wrong_accounts(held)


@pytest.mark.parametrize("value", ["many", "nan", "-1", "1.5", "9" * 30, ""])
def test_a_length_that_is_no_number_is_found(held: Shard, value: str) -> None:
    """What the segments are said to fill may be anything at all: check names it, and neither fails nor spreads it."""
    held.client.hset(held.keys.ctx(A), "segs_bytes", value)
    assert set(held.call("check", more=[A])[1::2]) == {b"segments", b"uncounted"}
    held.call("repair", more=[A])
    held.call("recount")
    assert held.client.hget(held.keys.sizes, A) == b"12 conversation"
    assert held.usage()["bytes"] == 24


def test_a_list_that_nothing_belongs_to_is_taken_away(held: Shard) -> None:
    """Segments where none was appended belong to nobody: check finds them, repair removes them."""
    held.client.rpush(held.keys.segs(B), b"stray")
    assert held.call("check", more=[A, B]) == [B.encode(), b"segments"]
    assert held.call("repair", more=[A, B]) == [b"OK", b"0", B.encode(), b"segments"]
    assert held.call("check", more=[A, B]) == []
    assert not held.client.exists(held.keys.segs(B))


def test_what_is_lost_is_buried_with_an_event(held: Shard) -> None:
    """A lost context leaves a reason, a total and one event, and whatever was left of it is removed."""
    held.client.unlink(held.keys.body(A))
    before = held.dump()
    held.call("repair", more=[A])
    changed = dict.fromkeys(("index", "order", "sizes", "usage", "events"), "~")
    assert held.changes(before) == {f"ctx:{A}": "-", f"segs:{A}": "-", **changed, "tombs": "+"}
    assert held.events()[-1] == ("context.lose", A, "0")
    assert held.usage()["lost"] == 1
    assert set(held.scores(held.keys.tombs)) == {f"lost:{A}"}


def test_what_is_only_expired_is_no_fault(held: Shard) -> None:
    """The keys of an expired context are gone by right; sweeping it is not repair's business."""
    held.expire(1)
    before = held.dump()
    assert held.call("check", more=[A]) == []
    assert held.call("repair", more=[A]) == [b"OK", b"0"]
    assert_same(before, held.dump())


def test_repairing_what_is_sound_or_unknown_changes_nothing(held: Shard) -> None:
    """No fault, no write."""
    before = held.dump()
    assert held.call("repair", more=[A, B, context_id(9)]) == [b"OK", b"0"]
    assert_same(before, held.dump())


@pytest.mark.parametrize("name", ["check", "repair"])
@pytest.mark.parametrize("wrong", ["a key too few", "an id too many", "too many"])
def test_contexts_and_their_keys_must_match(held: Shard, name: str, wrong: str) -> None:
    """A hundred contexts a call, each with its three keys; anything else is refused before anything is looked at."""
    from lukhas_redis.scripts import load

    held.client.unlink(held.keys.body(A))
    more = [context_id(number) for number in range(101)] if wrong == "too many" else [A, B]
    words: list[Any] = list(held.words(load(name), {}, keys={}, more=more))
    if wrong == "a key too few":
        del words[words[0]]
        words[0] -= 1
    elif wrong == "an id too many":
        words.append(context_id(3))
    before = held.dump()
    with pytest.raises(Refused) as caught:
        held.send(load(name), words)
    assert caught.value.facts == {"name": "id"}
    assert_same(before, held.dump())


@pytest.mark.parametrize("key", ["index", "order", "sizes", "usage", "tombs", "events"])
@pytest.mark.parametrize("damage", [FAULTS[1][1], FAULTS[4][1]])
def test_a_key_of_another_type_stops_repair_before_the_first_write(held: Shard, key: str, damage: Damage) -> None:
    """Whatever it would have to write to is looked at first, also when everything is lost."""
    damage(held)
    wrong = getattr(held.keys, key)
    held.client.delete(wrong)
    held.client.set(wrong, "not ours")
    before = held.dump()
    if "WRONGTYPE" in str(held.outcome("repair", more=[A])):
        assert_same(before, held.dump())
    else:
        assert key not in held.changes(before)
        assert key == "events"


def test_recount_puts_the_totals_right(held: Shard) -> None:
    """It answers how far off they were, in a dry run without changing them; types that are gone lose their share."""
    held.client.hset(held.keys.usage, mapping={"bytes": 100, "entries": 7, "entries:job": 3, "entries:conversation": 1})
    before = held.dump()
    assert held.call("recount", dry=1) == [b"-28", b"5"]
    assert_same(before, held.dump())
    assert held.call("recount") == [b"-28", b"5"]
    assert held.changes(before) == {"usage": "~"}
    usage = held.usage()
    assert (usage["bytes"], usage["entries"], usage["entries:conversation"]) == (128, 2, 2)
    assert "entries:job" not in usage
    assert not wrong_accounts(held)


@pytest.mark.parametrize("name", ["bytes", "entries:conversation", "preserved", "rate_at"])
@pytest.mark.parametrize("value", ["many", "9" * 30, "nan", "1.5"])
def test_recount_takes_away_what_is_no_number(held: Shard, name: str, value: str) -> None:
    """A total that holds something else stops every write; recount makes the tenant usable again."""
    held.client.hset(held.keys.usage, name, value)
    with pytest.raises(Refused, match="LKCORRUPT"):
        held.preserve(1)
    held.call("recount")
    assert held.preserve(1)[0] == b"OK"
    assert not wrong_accounts(held)


def test_recount_of_an_empty_shard(shard: Shard) -> None:
    """Nothing stored adds up to nothing."""
    assert shard.call("recount") == [b"0", b"0"]


def test_recount_refuses_more_than_one_call_may_count(shard: Shard) -> None:
    """Above 20,000 contexts it refuses rather than hold the server up."""
    shard.client.hset(shard.keys.sizes, mapping={str(number): "1 job" for number in range(20_001)})
    before = shard.dump()
    with pytest.raises(Refused, match="LKLARGE"):
        shard.call("recount")
    assert_same(before, shard.dump())
