"""commit: the end of a delivery, changes of contexts and further events: all of it, or nothing."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
import redis

from lukhas_redis.calls import Refused
from lukhas_redis.scripts import load
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.bus import Bus, Operation, Taken, event_words, names_of
from tests.lua.shard import context_id, segment

A, B, C = context_id(1), context_id(2), context_id(3)
EVENTS: list[Any] = [
    b"not msgpack \xc1",
    msgpack.packb(5),
    msgpack.packb("text"),
    msgpack.packb([5]),
    msgpack.packb([["too", "short"]]),
    msgpack.packb([[*event_words()[:-1], 5]]),
    msgpack.packb([event_words()] * 17),
    msgpack.packb([event_words(priority="due")]),
    msgpack.packb([event_words(event="a b")]),
    msgpack.packb([event_words(delay_ms="x")]),
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


def test_everything_happens_together(bus: Bus, taken: Taken) -> None:
    """Two appends and a handoff of one context, another dropped, a new one, two events, and the delivery is finished."""
    parts = (
        append(bus, text=b"one"),
        append(bus, text=b"two"),
        bus.operation("handoff", id=A),
        bus.operation("drop", id=B),
        bus.operation("preserve", id=C),
    )
    reply = bus.commit(taken, *parts, events=[event_words(1), event_words(2, event="later", delay_ms="60000")])
    assert reply[:3] == [b"OK", b"0", b"2"]
    assert [one[2] for one in answers(reply)[:2]] == [b"2", b"3"]
    fields = bus.shard.fields(1)
    assert (fields["version"], fields["owner"], fields["segs"]) == ("4", "gpt", "2")
    assert bus.shard.segments(1) == [segment(b"one"), segment(b"two")]
    assert (bus.shard.fields(2), bus.shard.fields(3)["version"]) == ({}, "1")
    assert (bus.finished(), bus.counts()["done"], bus.length("later")) == (True, 1, 1)
    assert names_of(bus.claim()) == ["task.made"]
    assert wrong_accounts(bus.shard) == []
    told = [one for one in bus.shard.events() if one[0] != "context.preserve"]
    assert told == [("context.append", A, "2"), ("context.append", A, "3"), ("context.handoff", A, "4"), ("context.drop", B, "0")]


def test_a_new_context_can_be_changed_at_once(bus: Bus, taken: Taken) -> None:
    """Each operation sees what those before it would write: version, owner, hop, deadline, session."""
    parts = (
        bus.operation("preserve", id=C, sid="s9", ttl_ms=60_000),
        bus.operation("handoff", id=C, sid="s9", source="me", destination="you", ttl_ms=120_000),
        bus.operation("handoff", id=C, source="you", destination="me", if_version=2),
        bus.operation("pin", id=C),
        bus.operation("extend", id=C, sid="s9", ttl_ms=240_000),
    )
    bus.commit(taken, *parts)
    fields = bus.shard.fields(3)
    assert (fields["version"], fields["owner"], fields["hops"], fields["pinned"]) == ("3", "me", "2", "1")
    assert len(set(bus.shard.deadlines(3).values()) - {-2}) == 1
    assert wrong_accounts(bus.shard) == []


@pytest.mark.parametrize("place", [1, 2, 3])
@pytest.mark.parametrize(
    "name, args, word",
    [
        ("append", {"id": A, "if_version": 7}, "LKCONFLICT"),
        ("handoff", {"id": C}, "LKABSENT"),
        ("append", {"id": A, "max_bytes": 20}, "LKFULL"),
        ("preserve", {"id": C, "max_entries": 2}, "LKFULL"),
        ("handoff", {"id": A, "lease": 9}, "LKFENCED"),
        ("preserve", {"id": A, "sid": "another"}, "LKSESSION"),
        ("append", {"id": A, "payload": b"no segment"}, "LKARGUMENT"),
    ],
)
def test_one_that_fails_undoes_all(
    bus: Bus, taken: Taken, place: int, name: str, args: dict[str, Any], word: str
) -> None:
    """Wherever it stands; the refusal says which it was."""
    parts = [append(bus, B), bus.operation("handoff", id=B)]
    parts.insert(place - 1, bus.operation(name, **args))
    before = bus.dump()
    with pytest.raises(Refused) as caught:
        bus.commit(taken, *parts, events=[event_words()])
    assert (caught.value.word, caught.value.facts["op"]) == (word, str(place))
    assert_same(before, bus.dump())


@pytest.mark.parametrize(
    "name, args, word",
    [
        ("append", {"id": A, "bump": 0, "view": ""}, b"LOOK"),
        ("append", {"id": A, "max_segs": 1}, b"FOLD"),
        ("append", {"id": A, "sid": "another", "ttl_ms": 60_000}, b"SESSION"),
        ("preserve", {"id": C, "max_entries": 2, "policy": "evict_oldest"}, b"VICTIMS"),
    ],
)
def test_what_an_operation_needs_first_is_said(bus: Bus, taken: Taken, name: str, args: dict[str, Any], word: bytes) -> None:
    """With its number, and nothing is written of those before it either."""
    parts = [append(bus, A), bus.operation(name, **args)]
    before = bus.dump()
    reply = bus.commit(taken, *parts)
    assert (reply[0], reply[1], reply[2][0]) == (b"STEP", b"2", word)
    assert_same(before, bus.dump())


@pytest.mark.parametrize("kind", ["entries", "bytes"])
def test_a_quota_is_exact_over_several_operations(bus: Bus, taken: Taken, kind: str) -> None:
    """The last entry and the last byte that fit are taken, and not one more."""
    room = bus.shard.usage()["bytes"] + 3 * len(segment(b"item"))

    def parts(less: int) -> list[Operation]:
        if kind == "bytes":
            return [append(bus, A, max_bytes=room - less) for _ in range(3)]
        return [bus.operation("preserve", id=context_id(number), max_entries=5 - less) for number in (10, 11, 12)]

    before = bus.dump()
    with pytest.raises(Refused) as caught:
        bus.commit(taken, *parts(1))
    assert (caught.value.word, caught.value.facts["op"]) == ("LKFULL", "3")
    assert_same(before, bus.dump())
    bus.commit(taken, *parts(0))
    assert wrong_accounts(bus.shard) == []


def test_the_throughput_of_all_operations_counts(bus: Bus, taken: Taken) -> None:
    """The second one finds what the first has used."""
    parts = [append(bus, A, text=b"x" * 100, rate=10), append(bus, A, rate=10)]
    before = bus.dump()
    with pytest.raises(Refused, match="LKTHROTTLED"):
        bus.commit(taken, *parts)
    assert_same(before, bus.dump())


def test_what_is_written_is_not_evicted(bus: Bus, taken: Taken) -> None:
    """A context that the same commit has appended to is the newest, not the oldest: another one makes room."""
    words = {"id": C, "max_entries": 2, "policy": "evict_lru"}
    named = bus.commit(taken, append(bus, A), bus.operation("preserve", **words))
    assert named[2] == [b"VICTIMS", B.encode()]
    script = load("preserve")
    given = bus.shard.words(script, {**words, "marker": "", "shards": ""}, keys={}, more=[B])
    count = int(given[0])
    tail = given[1 + count :]
    part = Operation(tuple(map(str, given[1 : 1 + count])), ("preserve", count, len(tail), *tail))
    bus.commit(taken, append(bus, A), part)
    assert (bus.shard.fields(1)["version"], bus.shard.fields(2), bus.shard.fields(3)["version"]) == ("2", {}, "1")
    assert wrong_accounts(bus.shard) == []


def test_the_list_of_a_session_lives_as_long_as_its_longest_context(bus: Bus, taken: Taken) -> None:
    """Also when a shorter one is made after it in the same commit."""
    long, short = {"id": A, "sid": "s9", "ttl_ms": 7_200_000}, {"id": C, "sid": "s9", "ttl_ms": 60_000}
    bus.shard.call("drop", id=A)
    bus.commit(taken, bus.operation("preserve", **long), bus.operation("preserve", **short))
    ends = int(bus.shard.client.pexpiretime(bus.shard.keys.session("s9")))
    assert ends >= bus.shard.deadlines(1)["ctx"]


def test_what_is_gone_is_told_as_it_is(bus: Bus, taken: Taken) -> None:
    """After a drop in the same commit the context was dropped, not lost."""
    with pytest.raises(Refused) as caught:
        bus.commit(taken, bus.operation("drop", id=A), append(bus, A))
    assert (caught.value.word, caught.value.facts["reason"]) == ("LKABSENT", "dropped")


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
