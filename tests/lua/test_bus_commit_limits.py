"""commit: what it refuses, what it answers to a repeat, and its dry run."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from lukhas_redis.calls import Refused
from lukhas_redis.scripts import load
from lukhas_redis.testing import assert_same
from tests.lua.bus import Bus, Operation, Taken, event_words, packed
from tests.lua.shard import context_id, segment

A, B, C = context_id(1), context_id(2), context_id(3)
EVENTS: list[Any] = [
    b"not msgpack \xc1",
    packed(5),
    packed("text"),
    packed([5]),
    packed([["too", "short"]]),
    packed([[*event_words()[:-1], 5]]),
    packed([event_words()] * 17),
    packed([event_words(priority="due")]),
    packed([event_words(event="a b")]),
    packed([event_words(delay_ms="x")]),
]


@pytest.fixture
def taken(bus: Bus) -> Taken:
    """An event in hand, and two contexts to change."""
    bus.shard.preserve(1)
    bus.shard.preserve(2)
    bus.emit("first")
    return bus.claim()[0]


def append(bus: Bus, one: str = A, text: bytes = b"item", **args: Any) -> Operation:
    """An append as a part."""
    return bus.operation("append", id=one, payload=segment(text), **args)


def answers(reply: Any) -> list[list[bytes]]:
    """What the operations answered."""
    assert reply[0] == b"OK", reply
    return list(reply[3:])


@pytest.mark.parametrize("count", [16, 17])
def test_sixteen_operations_and_no_more(bus: Bus, taken: Taken, count: int) -> None:
    """The limit of a commit."""
    parts = [append(bus, A, text=b"%d" % number) for number in range(count)]
    if count == 16:
        assert len(answers(bus.commit(taken, *parts))) == 16
        return
    before = bus.dump()
    with pytest.raises(Refused, match="LKARGUMENT"):
        bus.commit(taken, *parts)
    assert_same(before, bus.dump())


@pytest.mark.parametrize("events", EVENTS)
def test_events_that_are_none_are_refused(bus: Bus, taken: Taken, events: bytes) -> None:
    """By name, before anything is written."""
    words = bus.words(load("commit"), {**taken.args, "events": events})
    before = bus.dump()
    with pytest.raises(Refused, match="LKARGUMENT"):
        bus.shard.send(load("commit"), words)
    assert_same(before, bus.dump())


@pytest.mark.parametrize("change", [("name", "sweep"), ("keys", 99), ("args", 999), ("keys", "x"), ("args", 0)])
def test_operations_that_are_none_are_refused(bus: Bus, taken: Taken, change: tuple[str, Any]) -> None:
    """An unknown name, or counts that do not fit."""
    good = append(bus)
    place = ("name", "keys", "args").index(change[0])
    words = [*good.words[:place], change[1], *good.words[place + 1 :]]
    before = bus.dump()
    with pytest.raises(Refused, match="LKARGUMENT"):
        bus.commit(taken, Operation(good.keys, tuple(words)))
    assert_same(before, bus.dump())


def test_a_full_stream_stops_the_whole_commit(bus: Bus, taken: Taken) -> None:
    """First it asks for a trim; then it is a backlog, and no context has changed."""
    before = bus.dump()
    assert bus.commit(taken, append(bus), events=[event_words()] * 2, max_entries=2) == [b"TRIM"]
    with pytest.raises(Refused) as caught:
        bus.commit(taken, append(bus), events=[event_words()] * 2, max_entries=2, trimmed=1)
    assert caught.value.facts == {"priority": "normal", "limit": "2"}
    assert_same(before, bus.dump())
    bus.commit(taken, append(bus), events=[event_words()], max_entries=2)


def test_a_stream_at_its_end_stops_the_whole_commit(bus: Bus, taken: Taken) -> None:
    """It could not take the event after the contexts were written."""
    client = bus.shard.client
    client.xadd(bus.shard.keys.bus("low"), {"planted": "1"}, id=f"{2**64 - 1}-5")
    before = bus.dump()
    assert isinstance(_tried(bus, taken, append(bus), events=[event_words(priority="low")]), Refused)
    assert_same(before, bus.dump())


@pytest.mark.parametrize("durable", [0, 1])
def test_a_repeated_write_emits_nothing_again(bus: Bus, taken: Taken, durable: int) -> None:
    """Without a delivery the request id of the write stands for its events, too, also when its record is rewritten."""
    part = append(bus, request_id="r", durable=durable)
    first = bus.commit(None, part, events=[event_words()])
    assert first[2] == b"1"
    before = bus.dump()
    again = bus.commit(None, part, events=[event_words()])
    assert (again[2], again[3]) == (b"0", first[3])
    assert_same(before, bus.dump())
    assert (bus.length("normal"), len(bus.shard.segments(1))) == (2, 1)


@pytest.mark.parametrize("part", ["later", "wake", "busy", "group", "usage", "log"])
def test_a_key_of_another_type_stops_it(bus: Bus, taken: Taken, part: str) -> None:
    """Whichever key it is, of the bus or of a context."""
    keys = bus.shard.keys
    key = {"busy": keys.group("g", "busy"), "group": keys.group("g"), "usage": keys.usage, "log": keys.log(A)}.get(part)
    key = key or keys.bus(part)
    bus.shard.client.delete(key)
    bus.shard.client.set(key, "planted")
    before = bus.dump()
    outcome = _tried(bus, taken, append(bus, B), append(bus, A), events=[event_words(delay_ms="5")])
    assert isinstance(outcome, redis.ResponseError)
    assert str(outcome).startswith("WRONGTYPE")
    assert_same(before, bus.dump())


def _tried(bus: Bus, taken: Taken, *parts: Operation, **args: Any) -> Any:
    return bus.shard.tried(load("commit"), bus.commit_words(taken, *parts, **args))


# -- dry runs


@pytest.mark.parametrize("by", ["argument", "tenant"])
def test_a_dry_commit_answers_as_live(bus: Bus, taken: Taken, by: str) -> None:
    """The versions and counts that live gives next, and nothing is written."""
    parts = (append(bus), append(bus, text=b"two"), bus.operation("preserve", id=C), bus.operation("handoff", id=C))
    if by == "tenant":
        bus.shard.call("set_flag", name="mode", value="dry_run")
    before = bus.dump()
    dry = bus.commit(taken, *parts, events=[event_words()], dry=int(by == "argument"))
    assert_same(before, bus.dump())
    bus.shard.call("set_flag", name="mode", value="live")
    live = bus.commit(taken, *parts, events=[event_words()])
    assert dry[:3] == [b"OK", b"1", b"1"]
    assert [one[2] for one in answers(dry)] == [one[2] for one in answers(live)]
    assert all(one[1] == b"1" for one in answers(dry))


def test_a_dry_commit_makes_no_room(bus: Bus, taken: Taken) -> None:
    """Where a live one would ask for a purge first it goes on as if that were done."""
    for number in range(20, 30):
        bus.shard.preserve(number)
    for number in range(20, 30):
        bus.shard.expire(number)
    part = bus.operation("preserve", id=C, max_entries=3)
    assert bus.commit(taken, part)[2] == [b"PURGE"]
    before = bus.dump()
    assert bus.commit(taken, part, dry=1)[:2] == [b"OK", b"1"]
    assert_same(before, bus.dump())


def test_a_dry_write_of_a_tenant_nobody_has_used(bus: Bus) -> None:
    """It is answered without a record of the tenant."""
    client, keys = bus.shard.client, bus.shard.keys
    client.delete(*[key.decode() for key in bus.dump()], keys.shard)
    reply = bus.commit(None, bus.operation("preserve", id=C), events=[event_words()], dry=1, marker="")
    assert reply[:3] == [b"OK", b"1", b"1"]
    assert bus.dump() == {}
