"""read, ack and retry of the sync bus: taking events without a handler."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from lukhas_redis.bus import ContextBus
from lukhas_redis.errors import InvalidArgument, InvalidId, TenantPaused
from tests.bus.conftest import Look

Reader = Callable[..., ContextBus]


def test_two_readers_share_what_a_group_gets(reader: Reader) -> None:
    """Each event is one reader's; the other finds it FENCED, a second end GONE."""
    first, second = reader(), reader()
    for number in range(4):
        first.emit("a", {"n": number})
    mine, theirs = first.read("g", count=2), second.read("g", count=10)
    assert [one.payload["n"] for one in (*mine, *theirs)] == [0, 1, 2, 3]
    assert set(second.ack("g", *mine).values()) == {"FENCED"}
    assert set(first.ack("g", *mine).values()) == {"DONE"}
    assert set(first.ack("g", *mine).values()) == {"GONE"}
    assert second.retry("g", theirs[0], delay=60).state == "RETRY"
    assert first.read("g") == []


def test_a_reader_waits_for_the_first(reader: Reader) -> None:
    """It is woken by an event, and comes back empty when none comes in its time."""
    waiting, other = reader(), reader()
    assert waiting.read("g") == []
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(waiting.read("g", wait=20)))
    thread.start()
    other.emit("a")
    thread.join(30)
    assert [one.event for one in found] == ["a"]


def test_a_lapsed_hold_is_another_readers(reader: Reader) -> None:
    """After `hold_seconds` without a sign the next one gets it, counted."""
    first, second = reader(), reader()
    first.emit("a")
    (mine,) = first.read("g", hold_seconds=0.001)
    (taken,) = second.read("g", wait=10)
    assert (taken.event_id, taken.deliveries) == (mine.event_id, 2)
    assert first.ack("g", mine) == {mine.event_id: "FENCED"}
    (group,) = second.status().groups
    assert (group.counts["taken_over"], group.pending) == (1, 1)


def test_a_reader_finds_what_fits_behind_what_does_not(reader: Reader) -> None:
    """However much is skipped first, a read comes back with what it was asked for."""
    bus = reader()
    for _ in range(200):
        bus.emit("skipped")
    bus.emit("wanted")
    assert [one.event for one in bus.read("g", pattern="wanted")] == ["wanted"]


def test_what_cannot_be_read_is_a_letter(reader: Reader, look: Look) -> None:
    """An entry that somebody planted does not stop those behind it."""
    bus = reader()
    bus.emit("a")
    look.client.xadd(look.keys.bus("normal"), {"event": "a", "payload": b"\xc1"})
    bus.emit("a", {"n": 2})
    assert [one.payload for one in bus.read("g", count=10)] == [{}, {"n": 2}]
    (letter,) = bus.dead_letters()
    assert (letter.reason, letter.event, letter.name) == ("payload", None, "a")
    assert bus.redrive([letter]).letter_ids == (letter.letter_id,)


@pytest.mark.parametrize(
    "args, error",
    [
        ({"group": "a b"}, InvalidId),
        ({"pattern": ""}, InvalidArgument),
        ({"pattern": "*****"}, InvalidArgument),
        ({"pattern": []}, InvalidArgument),
        ({"count": 0, "group": "g"}, None),
        ({"count": 5000}, InvalidArgument),
        ({"hold_seconds": 0.0}, InvalidArgument),
        ({"start": "sometime"}, InvalidArgument),
    ],
)
def test_bad_arguments_take_nothing(reader: Reader, args: dict[str, Any], error: type[Exception] | None) -> None:
    """Each has its error, and events stay for others."""
    bus = reader()
    bus.emit("a")
    if error is None:
        assert bus.read(**args) == []
    else:
        with pytest.raises(error):
            bus.read(**{"group": "g", **args})
    assert len(bus.read("other")) == 1


def test_nothing_is_handed_out_while_paused(reader: Reader) -> None:
    """What is in hand may end, and what waits is there afterwards."""
    bus = reader()
    bus.emit("a")
    bus.emit("b")
    (one,) = bus.read("g")
    bus.store.set_mode("paused")
    with pytest.raises(TenantPaused):
        bus.read("g")
    assert bus.ack("g", one) == {one.event_id: "DONE"}
    bus.store.set_mode("live")
    assert [one.event for one in bus.read("g")] == ["b"]
