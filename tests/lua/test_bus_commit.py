"""commit: the end of a delivery, changes of contexts and further events: all of it, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.scripts import load
from lukhas_redis.testing import assert_same
from tests.lua.accounts import wrong_accounts
from tests.lua.bus import Bus, Operation, Taken, event_words, names_of
from tests.lua.shard import context_id, segment

A, B, C = context_id(1), context_id(2), context_id(3)


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
    """Two appends and a handoff of one context, another dropped, a new one, two events, and the delivery ends."""
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
    assert told == [
        ("context.append", A, "2"),
        ("context.append", A, "3"),
        ("context.handoff", A, "4"),
        ("context.drop", B, "0"),
    ]


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
def test_what_an_operation_needs_first_is_said(
    bus: Bus, taken: Taken, name: str, args: dict[str, Any], word: bytes
) -> None:
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
    words: dict[str, Any] = {"id": C, "max_entries": 2, "policy": "evict_lru"}
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
