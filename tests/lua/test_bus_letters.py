"""redrive, discard, replay: events that come once more, or never again."""

from __future__ import annotations

from typing import Any

from lukhas_redis.testing import assert_same
from tests.lua.bus import Bus, names_of


def letters(bus: Bus) -> list[str]:
    """Ids of the dead letters, oldest first."""
    return bus.ids("dead")


def kill(bus: Bus, count: int = 1, **args: Any) -> None:
    """Make dead letters of what the group is given next."""
    for one in bus.claim(count, **args):
        bus.retry(one, max_deliveries=0, **args)


def test_a_letter_goes_back_to_its_group_alone(bus: Bus) -> None:
    """With its own id and all that was in it, its deliveries counted anew, behind what waits."""
    bus.join("other")
    bus.emit("bad", priority="high", ordering_key="k", correlation="c", trace="t")
    bus.emit("next", priority="high")
    (other, _) = bus.claim(group="other")
    kill(bus)
    (letter,) = letters(bus)
    assert bus.call("redrive", letter, letter)[3:] == [b""]
    assert letters(bus) == []
    again = bus.claim()
    assert [(one.name, one.deliveries, one.rank) for one in again] == [("next", 1, 2), ("bad", 1, 2)]
    same = ("id", "event", "payload", "correlation", "trace", "key", "at")
    assert {name: again[1].fields[name] for name in same} == {name: other.fields[name] for name in same}
    assert bus.claim(group="other") == []
    assert (bus.counts("other")["skipped"], again[1].fields["only"]) == (1, b"g")


def test_a_letter_of_a_retired_group_stays(bus: Bus) -> None:
    """Nobody would get it; a dry run says so too."""
    bus.emit()
    kill(bus)
    bus.call("retire", force=1)
    before = bus.dump()
    for dry in (1, 0):
        assert bus.call("redrive", letters(bus)[0], dry=dry)[2:] == [b""]
    assert_same(before, bus.dump())


def test_a_letter_nobody_could_read_stays(bus: Bus) -> None:
    """An entry without a payload was never an event: it is given to no group, least of all to every one."""
    bus.join("other")
    bus.shard.client.xadd(bus.shard.keys.bus("normal"), {"id": "1", "event": "odd"})
    kill(bus)
    before = bus.dump()
    for dry in (1, 0):
        assert bus.call("redrive", letters(bus)[0], dry=dry)[2:] == [b""]
    assert_same(before, bus.dump())


def test_a_redrive_goes_on_past_a_stream_at_its_end(bus: Bus) -> None:
    """Of several letters those are moved that can be; the others stay letters."""
    bus.emit("stuck")
    bus.emit("fine", priority="low")
    kill(bus, 2)
    client, key = bus.shard.client, bus.shard.keys.bus("normal")
    client.xadd(key, {"planted": "1"}, id=f"{2**64 - 1}-{2**64 - 1}")
    assert [bool(one) for one in bus.call("redrive", *letters(bus))[2:]] == [False, True]
    assert [one["event"] for one in bus.stream("dead")] == [b"stuck"]


def test_letters_are_thrown_away(bus: Bus) -> None:
    """Those named and no others."""
    bus.emit_many(3)
    kill(bus, 3)
    first, second, third = letters(bus)
    before = bus.dump()
    assert bus.call("discard", first, third, dry=1)[2] == b"2"
    assert_same(before, bus.dump())
    assert bus.call("discard", first, third, "1-1")[2] == b"2"
    assert letters(bus) == [second]
    assert bus.outcome("discard").facts == {"name": "letter"}
    assert bus.outcome("discard", "planted").facts == {"name": "letter"}


def test_a_replay_is_for_one_group(bus: Bus) -> None:
    """In the order given, with the events' own ids; what is gone has no new id."""
    bus.join("other")
    bus.emit_many(2)
    bus.emit("high", priority="high")
    for group in ("g", "other"):
        bus.ack(*bus.claim(group=group), group=group)
    first, second = bus.ids("normal")
    (high,) = bus.ids("high")
    before = bus.dump()
    words = (3, second, 2, high, 3, first, 3, "1-1")
    assert bus.call("replay", *words, dry=1)[2:] == [second.encode(), high.encode(), first.encode(), b""]
    assert_same(before, bus.dump())
    assert [bool(one) for one in bus.call("replay", *words)[2:]] == [True, True, True, False]
    assert names_of(bus.claim()) == ["high", "e1", "e0"]
    assert bus.claim(group="other") == []


def test_a_replay_needs_room_where_it_goes(bus: Bus) -> None:
    """A stream that gets none of it may be full; one that does may not."""
    bus.emit_many(3)
    bus.emit("high", priority="high")
    (high,) = bus.ids("high")
    first = bus.ids("normal")[0]
    before = bus.dump()
    refused = bus.outcome("replay", 3, first, 2, high, max_entries=3)
    assert (refused.word, refused.facts) == ("LKBACKLOG", {"priority": "normal", "limit": "3"})
    assert bus.outcome("replay", 3, first, group="none").word == "LKGROUP"
    assert bus.outcome("replay", 3).facts == {"name": "event"}
    assert_same(before, bus.dump())
    assert bus.call("replay", 2, high, max_entries=3)[2] != b""
