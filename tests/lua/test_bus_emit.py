"""emit: what is stored of an event, when it is delivered, and when there is none."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from lukhas_redis.calls import Refused
from lukhas_redis.scripts import Arg
from lukhas_redis.testing import assert_same
from tests.lua.bus import PRIORITIES, Bus, event_words, names_of

FIELDS = ["id", "event", "source", "correlation", "causation", "key", "trace", "at", "only", "payload"]
WRONG: list[tuple[str, Arg]] = [
    ("id", ""),
    ("id", "not hex"),
    ("event", ""),
    ("event", "a b"),
    ("event", "a\nb"),
    ("priority", "urgent"),
    ("priority", "later"),
    ("priority", "due"),
    ("delay_ms", "-1"),
    ("delay_ms", "nan"),
    ("delay_ms", "1e99"),
    ("at_ms", "inf"),
    ("at_ms", "1.5"),
    ("max_entries", "0"),
    ("max_payload", "-1"),
    ("retention_ms", "0"),
]


def test_the_fields_stand_in_one_order(bus: Bus) -> None:
    """All events of a stream name their fields in the same order, so that the server stores the names once."""
    bus.emit(source="s", correlation="c", causation="p", ordering_key="k", trace="t", payload=b"\x00\xff")
    bus.emit()
    assert [list(one) for one in bus.stream("normal")] == [FIELDS, FIELDS]
    first = bus.stream("normal")[0]
    assert (first["source"], first["correlation"], first["causation"], first["key"], first["trace"]) == (
        *(b"s", b"c", b"p", b"k", b"t"),
    )
    assert first["payload"] == b"\x00\xff"


@pytest.mark.parametrize("priority", PRIORITIES)
def test_each_priority_has_its_stream(bus: Bus, priority: str) -> None:
    """An event is in the stream of its priority alone, and one sign goes to whoever waits."""
    bus.emit(priority=priority)
    assert [bus.length(one) for one in (*PRIORITIES, "later", "wake")] == [
        *(int(one == priority) for one in PRIORITIES),
        *(0, 1),
    ]


def test_signs_do_not_pile_up(bus: Bus) -> None:
    """However many events nobody fetches, the stream of signs stays short."""
    bus.emit_many(60)
    assert bus.length("wake") == 16


def test_a_delayed_event_is_promoted_once(bus: Bus) -> None:
    """It waits aside, is moved when it is due, keeps its id, and is not moved again."""
    bus.emit("now")
    bus.emit("soon", delay_ms=3_600_000)
    taken = bus.claim()
    assert names_of(taken) == ["now"]
    bus.ack(*taken)
    assert (bus.length("later"), bus.length("normal")) == (1, 1)
    assert 3_500_000 < bus.next_ms() <= 3_600_000
    due = bus.shard.keys.bus("due")
    bus.shard.client.zadd(due, dict.fromkeys(bus.shard.scores(due), 1))
    taken = bus.claim()
    assert names_of(taken) == ["soon"]
    assert taken[0].fields["id"] == b"00000002"
    assert (bus.length("later"), bus.shard.scores(due), bus.claim(), bus.length("normal")) == (0, {}, [], 2)


def test_of_delay_and_moment_the_later_counts(bus: Bus) -> None:
    """`at_ms` in the past is now; with both given the event waits for the later one."""
    now = bus.shard.now_ms()
    assert int(bus.call("emit", at_ms=now + 50_000, delay_ms=1000)[4]) == now + 50_000
    assert int(bus.call("emit", at_ms=now + 1000, delay_ms=50_000)[4]) >= now + 50_000
    bus.emit(at_ms=1)
    assert (bus.length("later"), bus.length("normal")) == (2, 1)


def test_events_due_together_come_in_their_order(bus: Bus) -> None:
    """Also more than ten of one commit, which differ by the last part of their ids alone."""
    at = str(bus.shard.now_ms() + 600_000)
    names = [f"e{number}" for number in range(16)]
    bus.commit(None, events=[event_words(number, event=name, at_ms=at) for number, name in enumerate(names)])
    assert len({sid.split("-")[0] for sid in bus.ids("later")}) == 1
    due = bus.shard.keys.bus("due")
    bus.shard.client.zadd(due, dict.fromkeys(bus.shard.scores(due), 1))
    assert names_of(bus.claim(20)) == names


def test_a_paused_tenant_takes_no_event_and_loses_none(bus: Bus) -> None:
    """What was due while it was paused is promoted after it."""
    bus.emit("late", delay_ms=1)
    bus.shard.call("set_flag", name="mode", value="paused")
    before = bus.dump()
    with pytest.raises(Refused, match="LKPAUSED"):
        bus.emit()
    assert bus.call("claim", "^.*$") == [b"PAUSED"]
    assert_same(before, bus.dump())
    bus.shard.call("set_flag", name="mode", value="live")
    bus.shard.client.zadd(bus.shard.keys.bus("due"), dict.fromkeys(bus.shard.scores(bus.shard.keys.bus("due")), 1))
    assert names_of(bus.claim()) == ["late"]


@pytest.mark.parametrize("by", ["argument", "tenant"])
def test_a_dry_run_answers_and_writes_nothing(bus: Bus, by: str) -> None:
    """The answer has the words of the live one."""
    if by == "tenant":
        bus.shard.call("set_flag", name="mode", value="dry_run")
    before = bus.dump()
    reply = bus.call("emit", id="0a", request_id="r", dry=int(by == "argument"))
    assert reply[:4] == [b"OK", b"1", b"0a", b"0-0"]
    assert int(reply[4]) > 0
    assert_same(before, bus.dump())


def test_a_request_is_one_event(bus: Bus) -> None:
    """The same request has the same answer; under other arguments it is refused."""
    first = bus.call("emit", id="0a", request_id="r")
    assert bus.call("emit", id="0b", request_id="r") == first
    before = bus.dump()
    with pytest.raises(Refused, match="LKREUSED"):
        bus.call("emit", id="0c", request_id="r", request="other")
    assert_same(before, bus.dump())
    assert bus.length("normal") == 1


@pytest.mark.parametrize("name, value", WRONG)
def test_wrong_arguments_are_named(bus: Bus, name: str, value: Arg) -> None:
    """Each is refused by name before anything is written."""
    before = bus.dump()
    with pytest.raises(Refused) as caught:
        bus.call("emit", **{name: value})
    assert (caught.value.word, caught.value.facts["name"]) == ("LKARGUMENT", name)
    assert_same(before, bus.dump())


def test_a_payload_over_the_limit_is_refused(bus: Bus) -> None:
    """With its size and the limit; at the limit it is taken."""
    before = bus.dump()
    with pytest.raises(Refused) as caught:
        bus.call("emit", payload=b"x" * 1001)
    assert (caught.value.word, caught.value.facts) == ("LKPAYLOAD", {"bytes": "1001", "limit": "1000"})
    assert_same(before, bus.dump())
    bus.emit(payload=b"x" * 1000)


def test_a_full_stream_asks_for_a_trim_and_then_refuses(bus: Bus) -> None:
    """Nothing unhandled is dropped; other priorities have room of their own, and delayed events too."""
    bus.emit_many(3, max_entries=3)
    before = bus.dump()
    assert bus.call("emit", max_entries=3) == [b"TRIM"]
    with pytest.raises(Refused) as caught:
        bus.call("emit", max_entries=3, trimmed=1)
    assert (caught.value.word, caught.value.facts) == ("LKBACKLOG", {"priority": "normal", "limit": "3"})
    assert_same(before, bus.dump())
    bus.emit(max_entries=3, priority="high")
    bus.emit(max_entries=3, delay_ms=1000)


def test_a_dry_run_sees_the_room_that_a_trim_would_make(bus: Bus) -> None:
    """As live it succeeds where finished events are in the way, and is refused where none is."""
    bus.emit_many(3)
    before = bus.dump()
    assert bus.outcome("emit", dry=1, max_entries=3, trimmed=1).word == "LKBACKLOG"
    assert_same(before, bus.dump())
    bus.ack(*bus.claim(1))
    before = bus.dump()
    assert bus.call("emit", dry=1, max_entries=3)[0] == b"OK"
    assert bus.outcome("emit", dry=1, max_entries=2, trimmed=1).word == "LKBACKLOG"
    assert_same(before, bus.dump())


@pytest.mark.parametrize("part", ["normal", "due", "later", "wake", "flags"])
def test_a_key_of_another_type_stops_it(bus: Bus, part: str) -> None:
    """Whatever key it is, the event is not half there."""
    client, keys = bus.shard.client, bus.shard.keys
    key = keys.flags if part == "flags" else keys.bus(part)
    client.delete(key)
    client.set(key, "planted")
    before = bus.dump()
    outcome: Any = bus.outcome("emit", delay_ms=1000 if part == "later" else 0)
    assert isinstance(outcome, redis.ResponseError)
    assert str(outcome).startswith("WRONGTYPE")
    assert_same(before, bus.dump())


def test_a_stream_of_signs_at_its_end_stops_nothing(bus: Bus) -> None:
    """Workers that get no sign look by themselves; the event is there."""
    wake = bus.shard.keys.bus("wake")
    bus.shard.client.delete(wake)
    bus.shard.client.xadd(wake, {"planted": "1"}, id=f"{2**64 - 1}-{2**64 - 1}")
    bus.emit("heard")
    assert names_of(bus.claim()) == ["heard"]


def test_a_stream_at_its_end_takes_no_event(bus: Bus) -> None:
    """The server's refusal is passed on, and nothing has changed."""
    normal = bus.shard.keys.bus("normal")
    bus.shard.client.xadd(normal, {"planted": "1"}, id=f"{2**64 - 1}-{2**64 - 1}")
    before = bus.dump()
    assert "exhausted" in str(bus.outcome("emit", request_id="r"))
    assert_same(before, bus.dump())
