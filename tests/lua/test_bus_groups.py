"""join, leave, retire, trim, status: groups, and what is kept for them."""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis.calls import Refused
from lukhas_redis.testing import assert_same, wait_until
from tests.lua.bus import PRIORITIES, Bus, names_of

# -- joining and leaving


@pytest.mark.parametrize("start, names", [("all", ["old", "new"]), ("new", ["new"])])
def test_a_new_group_begins_where_it_says(bus: Bus, start: str, names: list[str]) -> None:
    """With what is there, or with what comes."""
    bus.emit("old")
    assert bus.call("join", group="other", start=start)[2:] == [b"1", b"0"]
    bus.emit("new")
    assert names_of(bus.claim(group="other")) == names


def test_joining_again_changes_nothing(bus: Bus) -> None:
    """However often, and with whatever start."""
    bus.emit()
    bus.claim()
    before = bus.dump()
    assert bus.call("join", start="new")[2:] == [b"0", b"0"]
    assert_same(before, bus.dump())


def test_a_lost_group_goes_on_where_it_was(bus: Bus) -> None:
    """What it had in hand comes again, what it had finished does not, what it had not seen follows; it is counted."""
    bus.emit_many(4)
    done, held = bus.claim(2)
    bus.ack(done)
    bus.shard.client.xgroup_destroy(bus.shard.keys.bus("normal"), "g")
    assert bus.call("join")[2:] == [b"0", b"1"]
    bus.lapse(held)
    assert names_of(bus.claim()) == ["e1", "e2", "e3"]
    assert bus.counts()["healed"] == 1


def test_a_stream_that_was_deleted_is_read_from_its_new_beginning(bus: Bus) -> None:
    """Nothing that is emitted afterwards is skipped, and what vanished is counted."""
    bus.emit_many(2)
    gone = bus.claim()
    bus.shard.client.delete(bus.shard.keys.bus("normal"))
    bus.emit("after")
    assert bus.call("claim", "^.*$") == [b"NOGROUP"]
    bus.join()
    bus.lapse(*gone)
    assert names_of(bus.claim()) == ["after"]
    assert bus.counts()["lost"] == 2


@pytest.mark.parametrize("name, value", [("last:3", "abc"), ("last:3", "9" * 30 + "-1"), ("healed", "many")])
def test_a_group_whose_books_are_damaged_is_refused(bus: Bus, name: str, value: str) -> None:
    """Before anything is written: the server would refuse half way."""
    bus.shard.client.hset(bus.shard.keys.group("g"), name, value)
    bus.shard.client.xgroup_destroy(bus.shard.keys.bus("normal"), "g")
    before = bus.dump()
    assert bus.outcome("join").word == "LKCORRUPT"
    assert_same(before, bus.dump())


def test_leaving_takes_only_who_has_nothing(bus: Bus) -> None:
    """With a consumer the server would forget what it has; when that is finished, the name goes too."""
    bus.emit()
    taken = bus.claim(consumer="gone")
    assert bus.call("leave", consumer="gone")[2] == b"1"
    assert [one[0] for one in bus.pending().values()] == ["gone"]
    bus.ack(*taken, consumer="gone")
    assert bus.call("leave", consumer="gone")[2] == b"0"
    found: Any = bus.shard.client.xinfo_consumers(bus.shard.keys.bus("normal"), "g")
    assert found == []


def test_retiring_needs_force_while_something_is_unfinished(bus: Bus) -> None:
    """With force it is given up, and nothing of the group is left but its dead letters."""
    bus.emit_many(3)
    bus.claim(1)
    before = bus.dump()
    with pytest.raises(Refused) as caught:
        bus.call("retire")
    assert (caught.value.word, caught.value.number("unfinished")) == ("LKPENDING", 3)
    assert bus.call("retire", force=1, dry=1) == [b"OK", b"1", b"1", b"3"]
    assert_same(before, bus.dump())
    assert bus.call("retire", force=1) == [b"OK", b"0", b"1", b"3"]
    assert not [key for key in bus.dump() if b":group:" in key]
    assert bus.call("retire") == [b"OK", b"0", b"0", b"0"]
    assert bus.call("claim", "^.*$") == [b"NOGROUP"]


# -- trimming


def test_only_what_every_group_has_finished_goes(bus: Bus) -> None:
    """The slowest group decides, and of it what it has in hand; the last one finished goes as well."""
    bus.join("slow")
    names = bus.emit_many(5)
    bus.ack(*bus.claim())
    assert bus.call("trim")[2] == b"0"
    taken = bus.claim(3, group="slow")
    bus.ack(*taken[1:], group="slow")
    assert bus.call("trim")[2] == b"0"
    bus.ack(taken[0], group="slow")
    assert bus.call("trim")[2] == b"3"
    assert [one["event"].decode() for one in bus.stream("normal")] == names[3:]
    bus.ack(*bus.claim(group="slow"), group="slow")
    assert (bus.call("trim")[2], bus.length("normal")) == (b"2", 0)


def test_history_is_kept_for_its_time(bus: Bus) -> None:
    """Finished or without any group: events go when they are older than the history, no sooner."""
    bus.emit_many(3)
    bus.ack(*bus.claim())
    assert bus.call("trim", history_ms=3_600_000)[2] == b"0"
    bus.shard.client.xgroup_destroy(bus.shard.keys.bus("normal"), "g")
    assert bus.call("trim", history_ms=0)[2] == b"0"  # a lost group's events stay for it
    bus.shard.client.hdel(bus.shard.keys.bus("groups"), "g")
    assert bus.call("trim", history_ms=3_600_000)[2] == b"0"
    last = int(bus.ids("normal")[-1].split("-")[0])
    wait_until(lambda: bus.shard.now_ms() > last, what="the next millisecond")
    assert bus.call("trim", history_ms=0)[2] == b"3"


@pytest.mark.parametrize("history_ms", [10**13, 0])
def test_a_dry_trim_counts_what_would_go(bus: Bus, history_ms: int) -> None:
    """And changes nothing."""
    bus.emit_many(4)
    bus.ack(*bus.claim(3))
    before = bus.dump()
    dry = bus.call("trim", dry=1, history_ms=history_ms)
    assert_same(before, bus.dump())
    assert dry == [b"OK", b"1", b"0" if history_ms else b"3", b"0"]
    assert bus.call("trim", history_ms=history_ms)[2] == dry[2]


def test_history_makes_room_first(bus: Bus) -> None:
    """Under pressure a full stream gives up what is finished, however young, and never anything else."""
    bus.emit_many(6)
    bus.ack(*bus.claim(4))
    assert bus.call("trim", history_ms=3_600_000, max_entries=6, pressure=1)[2] == b"4"
    assert names_of(bus.claim()) == ["e4", "e5"]


def test_a_long_full_stream_gives_up_only_the_room_it_needs(bus: Bus) -> None:
    """The rest of its history stays readable."""
    bus.emit_many(1500)
    while taken := bus.claim(100):
        bus.ack(*taken)
    trimmed = int(bus.call("trim", history_ms=3_600_000, max_entries=1500, pressure=1)[2])
    assert 0 < trimmed <= 150
    assert bus.length("normal") == 1500 - trimmed


def test_a_group_at_the_last_id_stops_no_trim(bus: Bus) -> None:
    """Ids beyond what a number holds exactly are taken as they are written."""
    bus.emit_many(2)
    bus.shard.client.xgroup_setid(bus.shard.keys.bus("normal"), "g", f"{2**64 - 1}-{2**64 - 1}")
    assert bus.call("trim", pressure=1, max_entries=1)[0] == b"OK"


def test_workers_nobody_hears_of_are_taken_off_the_books(bus: Bus) -> None:
    """Those with something pending stay, whoever they are; the one that keeps what nobody has, always."""
    bus.emit_many(3, ordering_key="k")
    bus.emit_many(2)
    for worker in ("first", "second"):
        bus.claim(1, consumer=worker)
    bus.ack(*bus.claim(1, consumer="third"), consumer="third")
    before = bus.dump()
    assert bus.outcome("trim", idle_ms=999).facts == {"name": "idle_ms"}
    assert bus.call("trim", dry=1, idle_ms=1000)[3] == b"0"
    assert_same(before, bus.dump())

    def consumers() -> set[str]:
        found: Any = bus.shard.client.xinfo_consumers(bus.shard.keys.bus("normal"), "g")
        return {one["name"].decode() for one in found}

    def reaped() -> bool:
        bus.call("trim", idle_ms=1000)
        return "third" not in consumers()

    assert consumers() == {"first", "second", "third", "@waiting"}
    wait_until(reaped, what="a worker idle for a second is taken off")
    assert consumers() == {"first", "second", "@waiting"}


def test_status_tells_the_oldest_unfinished(bus: Bus) -> None:
    """What waits to be given out counts by its own age, not by that of the last one given."""
    bus.emit()
    bus.ack(*bus.claim())
    old = int(bus.ids("normal")[0].split("-")[0])
    wait_until(lambda: bus.shard.now_ms() > old + 2, what="some milliseconds")
    waiting = bus.emit("waiting")
    streams = bus.call("status")[2]
    rows = dict(zip(PRIORITIES, [one[1] for one in streams], strict=True))
    name, pending, lag, _, oldest, workers, first = rows["normal"][0]
    assert (name, pending, lag, oldest, workers, first) == (b"g", b"0", b"1", b"", [], waiting.encode())
    assert rows["low"][0][-1] == b""
