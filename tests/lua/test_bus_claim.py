"""claim: which events a worker is given, in which order, and at what price."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same
from tests.lua.bus import ANY, Bus, names_of

MALFORMED = ["%", "a", "^a", "a$", "^[a$", "^(a$", "^%", "^a%", "^%1$", "^%b$", "^a-$", "^a+$", "^\n$", ""]
WRONG = [
    *[("count", one) for one in ("-1", "1001", "x")],
    *[("hold_ms", one) for one in ("0", "86400001")],
    *[("max_deliveries", "0"), ("low_every", "1"), ("recover", "2"), ("max_dead", "0")],
    *[("group", "a b"), ("group", ""), ("consumer", "a\nb"), ("consumer", "")],
]


def commands(bus: Bus) -> int:
    """How many commands the server has carried out so far, those inside scripts included."""
    info: Any = bus.shard.client.info("commandstats")
    ours = ("cmdstat_x", "cmdstat_z", "cmdstat_h")
    return sum(one["calls"] for name, one in info.items() if name.startswith(ours))


def claims_cost(bus: Bus, **args: Any) -> int:
    """How many commands one claim takes."""
    before = commands(bus)
    bus.claim(**args)
    return commands(bus) - before


def test_what_is_more_urgent_overtakes_any_backlog(bus: Bus) -> None:
    """A critical event comes first, however many wait; within a priority the oldest."""
    for priority in ("low", "normal", "high"):
        bus.emit_many(20, priority=priority)
    bus.emit("alarm", priority="critical")
    assert names_of(bus.claim(1)) == ["alarm"]
    taken = bus.claim(4)
    assert [(one.rank, one.name) for one in taken] == [(2, "e0"), (2, "e1"), (2, "e2"), (2, "e3")]


@pytest.mark.parametrize("count", [1, 3, 8])
def test_lower_priorities_get_their_share_and_no_more(bus: Bus, count: int) -> None:
    """While critical events never run out, each of the others gets one of 3 * low_every, however many are taken."""
    for priority in ("critical", "high", "normal", "low"):
        bus.emit_many(160, priority=priority)
    ranks: Counter[int] = Counter()
    while sum(ranks.values()) < 120:
        taken = bus.claim(count, low_every=4)
        ranks.update(one.rank for one in taken)
        bus.ack(*taken)
    assert all(8 <= ranks[rank] <= 12 for rank in (2, 3, 4)), ranks
    assert ranks[1] >= 90


def test_what_lapsed_comes_before_what_is_new(bus: Bus) -> None:
    """An event whose worker is gone has waited longest; it is counted, and told of."""
    bus.emit_many(3)
    first = bus.claim(1, consumer="dead")
    bus.lapse(*first)
    taken = bus.claim(2, consumer="w2")
    assert [(one.name, one.deliveries) for one in taken] == [("e0", 2), ("e1", 1)]
    assert bus.pending()[first[0].sid] == ("w2", 2)
    assert (bus.counts()["taken_over"], bus.counts()["delivered"]) == (1, 3)


def test_what_is_held_is_not_given_to_another(bus: Bus) -> None:
    """While its hold lasts nobody else gets it, and `next_ms` says how long that is."""
    bus.emit()
    bus.claim(hold_ms=50_000)
    assert bus.claim(consumer="w2") == []
    assert 0 < bus.next_ms(consumer="w2") <= 50_000


def test_delivered_too_often_it_is_dead(bus: Bus) -> None:
    """The letter says who had it last and how often; its fields are those of the event."""
    bus.emit("fatal", correlation="c", payload=b"\x00data")
    bus.lapse(*bus.claim(max_deliveries=2, consumer="w1"))
    taken = bus.claim(max_deliveries=2, consumer="w2")
    assert taken[0].deliveries == 2
    bus.lapse(*taken)
    assert bus.claim(max_deliveries=2, consumer="w3") == []
    (letter,) = bus.stream("dead")
    assert {name: letter[name].decode() for name in ("group", "priority", "stream_id", "reason")} == {
        "group": "g",
        "priority": "normal",
        "stream_id": taken[0].sid,
        "reason": "deliveries",
    }
    assert (letter["deliveries"], letter["consumer"]) == (b"2", b"w2")
    assert (letter["event"], letter["payload"], letter["correlation"]) == (b"fatal", b"\x00data", b"c")
    assert bus.finished()
    assert (bus.counts()["dead"], bus.counts()["lost"]) == (1, 0)


def test_what_no_pattern_fits_is_finished(bus: Bus) -> None:
    """It is given to nobody and does not wait; a group with other patterns still gets it."""
    bus.join("other")
    for name in ("a.x", "b.x", "a.y"):
        bus.emit(name)
    assert names_of(bus.claim(patterns=["^a%..*$"])) == ["a.x", "a.y"]
    assert bus.counts()["skipped"] == 1
    assert names_of(bus.claim(group="other", patterns=["^b%..*$", "^.%.y$"])) == ["b.x", "a.y"]


@pytest.mark.parametrize("pattern", MALFORMED)
def test_a_malformed_pattern_is_refused_before_anything_is_taken(bus: Bus, pattern: str) -> None:
    """Lua would notice some of them only at a name that gets that far."""
    bus.emit("a")
    bus.emit("later", delay_ms=0, at_ms=1)
    before = bus.dump()
    with pytest.raises(Refused) as caught:
        bus.claim(patterns=["^.*$", pattern])
    assert caught.value.facts == {"name": "pattern"}
    assert_same(before, bus.dump())


@pytest.mark.parametrize("name, value", WRONG)
def test_wrong_arguments_are_named(bus: Bus, name: str, value: str) -> None:
    """Each is refused by name before anything is written."""
    bus.emit()
    before = bus.dump()
    with pytest.raises(Refused) as caught:
        bus.call("claim", *ANY, **{name: value})
    assert (caught.value.word, caught.value.facts["name"]) == ("LKARGUMENT", name)
    assert_same(before, bus.dump())


def test_a_claim_that_takes_nothing_new_gives_what_the_books_say(bus: Bus) -> None:
    """After a lost reply: what the worker has, beyond `count`, once each, also where its hold has lapsed."""
    bus.emit_many(3)
    lost = bus.claim(2)
    again = bus.claim(0, recover=1)
    assert [(one.sid, one.deliveries) for one in again] == [(one.sid, 1) for one in lost]
    bus.lapse(lost[0])
    both = bus.claim(5, recover=1)
    assert [(one.name, one.deliveries) for one in both] == [("e0", 1), ("e1", 1), ("e2", 1)]
    assert bus.counts()["taken_over"] == 0
    assert bus.claim(5, recover=1, consumer="w2") == []


def test_a_lost_group_is_told(bus: Bus) -> None:
    """Where one stream does not know the group, nothing is taken of any."""
    bus.emit(priority="high")
    bus.shard.client.xgroup_destroy(bus.shard.keys.bus("low"), "g")
    before = bus.dump()
    assert bus.call("claim", *ANY) == [b"NOGROUP"]
    assert_same(before, bus.dump())


# -- ordering keys


def test_one_at_a_time_and_in_order(bus: Bus) -> None:
    """Two workers never have two events of one key; other keys and events without one pass."""
    for number in range(3):
        bus.emit(f"k{number}", ordering_key="k")
    bus.emit("free")
    bus.emit("other", ordering_key="o")
    first = bus.claim()
    assert names_of(first) == ["k0", "free", "other"]
    assert bus.claim(consumer="w2") == []
    assert bus.counts()["parked"] == 2
    assert bus.ack(first[0]) == ["DONE"]
    second = bus.claim(consumer="w2")
    assert ([(one.name, one.deliveries) for one in second], bus.claim(consumer="w3")) == ([("k1", 1)], [])
    assert bus.ack(*second, consumer="w2") == ["DONE"]
    assert names_of(bus.claim(consumer="w3")) == ["k2"]


def test_a_key_is_one_per_priority_and_per_group(bus: Bus) -> None:
    """The same key in another priority, and for another group, is another one."""
    bus.join("other")
    bus.emit("n", ordering_key="k")
    bus.emit("h", ordering_key="k", priority="high")
    assert names_of(bus.claim()) == ["h", "n"]
    assert names_of(bus.claim(group="other")) == ["h", "n"]


def test_a_retry_holds_its_key(bus: Bus) -> None:
    """Those behind it wait, also while it waits itself; then they come in order."""
    bus.emit_many(3, ordering_key="k")
    taken = bus.claim()
    assert bus.retry(taken[0], delay_ms=50_000) == "RETRY"
    assert bus.claim() == []
    bus.lapse(*taken)
    done: list[tuple[str, int]] = []
    while batch := bus.claim():
        done += [(one.name, one.deliveries) for one in batch]
        bus.ack(*batch)
    assert done == [("e0", 2), ("e1", 1), ("e2", 1)]
    assert bus.finished()


@pytest.mark.parametrize("how", ["retry", "claim"])
def test_a_dead_letter_lets_its_key_go(bus: Bus, how: str) -> None:
    """Whether a worker gave it up or none came back for it: the next one is handed out."""
    bus.emit_many(2, ordering_key="k")
    taken = bus.claim()
    if how == "retry":
        assert bus.retry(taken[0], max_deliveries=0) == "DEAD"
    else:
        bus.lapse(*taken)
        assert bus.claim(0, max_deliveries=1) == []
        bus.claim(1, max_deliveries=1)
        assert len(bus.stream("dead")) == 1
        bus.lapse(*[one for one in taken if one.name == "e1"])
    names = {one[0] for one in bus.pending().values()}
    assert names <= {"w1", "@waiting"}
    assert names_of(bus.claim(recover=1)) == ["e1"]


def test_a_busy_key_with_thousands_waiting_costs_nothing(bus: Bus) -> None:
    """Claims park 64 a call at most, and when all are parked look at none of them; other events come through."""
    bus.emit_many(5000, ordering_key="busy")
    bus.emit("other")
    first = bus.claim(1)
    assert names_of(first) == ["e0"]
    costs = []
    while names_of(bus.claim(1, consumer="w2")) != ["other"]:
        costs.append(claims_cost(bus, count=1, consumer="w3"))
    assert max(costs) < 400
    assert bus.counts()["parked"] == 4999
    calm = claims_cost(bus, count=10, consumer="w2")
    assert calm < 40
    assert bus.ack(first[0]) == ["DONE"]
    before = commands(bus)
    assert names_of(bus.claim(10, consumer="w2")) == ["e1"]
    assert commands(bus) - before < calm + 10


def test_who_takes_all_it_could_wakes_another(bus: Bus) -> None:
    """There may be more; one that found less leaves the others alone."""
    bus.emit_many(3)
    before = bus.shard.client.xinfo_stream(bus.shard.keys.bus("wake"))["entries-added"]
    bus.claim(2)
    bus.claim(2)
    assert bus.shard.client.xinfo_stream(bus.shard.keys.bus("wake"))["entries-added"] == before + 1


# -- losses


def test_a_deleted_worker_loses_nothing(bus: Bus) -> None:
    """XGROUP DELCONSUMER forgets what it had; the group does not."""
    bus.emit_many(2)
    taken = bus.claim(consumer="gone")
    bus.shard.client.xgroup_delconsumer(bus.shard.keys.bus("normal"), "g", "gone")
    assert bus.pending() == {}
    bus.lapse(*taken)
    assert [(one.name, one.deliveries) for one in bus.claim()] == [("e0", 1), ("e1", 1)]


def test_events_that_vanished_are_counted(bus: Bus) -> None:
    """Deleted by hand while a worker had them: lost, and not looked for again."""
    bus.emit_many(2)
    taken = bus.claim()
    bus.shard.client.xdel(bus.shard.keys.bus("normal"), *[one.sid for one in taken])
    bus.lapse(*taken)
    assert bus.claim() == []
    assert (bus.counts()["lost"], bus.finished()) == (2, True)


def test_what_somebody_planted_is_taken_away(bus: Bus) -> None:
    """No ids in our sets, no events among the delayed, no order among the parked: a claim goes on past them."""
    client, keys = bus.shard.client, bus.shard.keys
    bus.emit_many(2, ordering_key="k")
    first = bus.claim(1)
    bus.claim(1)
    busy: Any = client.hkeys(keys.group("g", "busy"))
    (lane,) = [one for one in busy if b"/" not in one]
    client.zadd(keys.group("g", "parked"), {lane + b":planted": 0})
    client.zadd(keys.group("g", "held:high"), {"planted": 1, "9" * 30 + "-1": 1, "-": 1, "+": 1})
    odd: Any = client.xadd(keys.bus("later"), {"planted": "1"})
    client.zadd(keys.bus("due"), {"planted": 1, odd: 1, "1-1": 1})
    bus.ack(*first)
    assert names_of(bus.claim()) == ["e1"]
    assert (bus.shard.scores(keys.group("g", "held:high")), bus.shard.scores(keys.bus("due"))) == ({}, {})
    assert bus.length("later") == 0


def test_dead_letters_at_their_end_keep_the_event(bus: Bus) -> None:
    """Where the stream of dead letters takes none, the event stays pending and everything else goes on."""
    dead = bus.shard.keys.bus("dead")
    bus.shard.client.xadd(dead, {"planted": "1"}, id=f"{2**64 - 1}-{2**64 - 1}")
    bus.emit_many(2)
    taken = bus.claim(1)
    bus.lapse(*taken)
    assert names_of(bus.claim(max_deliveries=1)) == ["e1"]
    assert taken[0].sid in bus.pending()
    bus.shard.client.delete(dead)
    bus.claim(max_deliveries=1)
    assert [one["event"] for one in bus.stream("dead")] == [b"e0"]
