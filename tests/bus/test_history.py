"""history, replay and dead letters, with both buses: events that were there before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest

from lukhas_redis.bus import AsyncContextBus, BusEvent, ContextBus
from lukhas_redis.bus_models import Discarded, Redriven, Replayed
from lukhas_redis.errors import GroupNotFound, InvalidArgument
from lukhas_redis.testing import wait_until
from tests.bus.conftest import Look

Reader = Callable[..., ContextBus]


def moment(ms: int) -> datetime:
    """A server time as history takes it."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def entered_ms(event: BusEvent) -> int:
    """When an event came into its stream."""
    return int(event.stream_id.partition("-")[0])


def kill(reader: ContextBus, group: str = "g", **args: Any) -> None:
    """Give up everything that a group is given next."""
    while events := reader.read(group, count=100, **args):
        for one in events:
            reader.retry(group, one, error="no good")


async def test_history_is_chosen_by_name_time_id_and_priority(both: AsyncContextBus) -> None:
    """Oldest first; the newest ones of them unless told."""
    sent = []
    for number, name in enumerate(("a.x", "b.x", "a.y", "a.x", "c")):
        sent.append(
            await both.emit(name, {"n": number}, priority=("low", "high")[number % 2], correlation_id=f"c{number % 2}")
        )
    numbers = {one.event_id: number for number, one in enumerate(sent)}

    async def found(*args: Any, **kwargs: Any) -> list[int]:
        return [numbers[one.event_id] for one in await both.history(*args, **kwargs)]

    every = [0, 1, 2, 3, 4]
    assert sorted(await found()) == every
    assert sorted(await found("a.*")) == [0, 2, 3]
    assert await found("?") == [4]
    assert sorted(await found(priority="high")) == [1, 3]
    assert await found(event_id=sent[2].event_id) == [2]
    assert sorted(await found(correlation_id="c1")) == [1, 3]
    ids = [tuple(map(int, one.stream_id.split("-"))) for one in await both.history()]
    assert ids == sorted(ids)
    assert await found(priority="low", count=2) == [2, 4]
    assert await found(priority="low", count=2, newest=False) == [0, 2]
    assert await found("nothing") == []


async def test_history_has_both_its_bounds(both: AsyncContextBus, look: Look) -> None:
    """Since and until include their millisecond; none is before the first or after the last."""
    await both.emit("old")
    # A busy server takes its clock for the entry's id a little after that for the event.
    old_ms = entered_ms((await both.history())[-1])
    wait_until(lambda: look.now_ms() > old_ms + 1, what="another millisecond")
    await both.emit("new")
    new_ms = entered_ms((await both.history())[-1])

    async def names(**args: Any) -> list[str]:
        return [one.event for one in await both.history(**args)]

    assert await names(since=moment(new_ms)) == ["new"]
    assert await names(until=moment(old_ms)) == ["old"]
    assert await names(since=moment(old_ms), until=moment(new_ms)) == ["old", "new"]
    assert await names(since=moment(new_ms + 1)) == await names(until=moment(old_ms - 1)) == []


async def test_history_goes_over_pages_and_past_what_it_cannot_read(both: AsyncContextBus, look: Look) -> None:
    """More than one answer of the server, in both directions; planted entries are left out."""
    for number in range(130):
        await both.emit("a", {"n": number})
        if number % 50 == 0:
            look.client.xadd(look.keys.bus("normal"), {"planted": "1"})
    wanted = list(range(130))
    assert [one.payload["n"] for one in await both.history(count=1000)] == wanted
    assert [one.payload["n"] for one in await both.history(count=110, newest=False)] == wanted[:110]
    assert [one.payload["n"] for one in await both.history()] == wanted[30:]


async def test_history_says_when_it_looked_at_a_part_only(
    both: AsyncContextBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it lacks may be there behind the entries that were looked at; what it was asked for, it has."""
    monkeypatch.setattr(import_module("lukhas_redis.ops.bus.history"), "LOOKED_AT", 200)
    await both.emit("old")
    for _ in range(199):
        await both.emit("a")
    every = await both.history("old")
    assert ([one.event for one in every], every.partial) == (["old"], False)
    await both.emit("new")
    for newest, lacking, there in ((True, "old", "new"), (False, "new", "old")):
        found = await both.history(lacking, newest=newest)
        assert (found, found.partial) == ([], True)
        found = await both.history(there, count=1, newest=newest)
        assert ([one.event for one in found], found.partial) == ([there], False)
    assert not (await both.history("old", until=moment(entered_ms(every[0])))).partial


async def test_a_pattern_means_the_same_everywhere(both: AsyncContextBus, reader: Reader) -> None:
    """Two characters stand for others, in history as in reading; brackets and operators are themselves."""
    names = ["a.x", "b.x", "a.b.x", "a-x", "ax"]
    for name in names:
        await both.emit(name)
    for number, (pattern, fitting) in enumerate(
        {
            "*": names,
            "a?x": ["a.x", "a-x"],
            "a.*": ["a.x", "a.b.x"],
            "[ab].x": [],
            "a.x|b.x": [],
            "(a.x)": [],
            "a*.x": ["a.x", "a.b.x"],
            "a.x": ["a.x"],
            ".*": [],
        }.items()
    ):
        assert [one.event for one in await both.history(pattern)] == fitting, pattern
        assert [one.event for one in reader().read(f"g{number}", count=9, pattern=pattern)] == fitting, pattern


@pytest.mark.parametrize(
    "args",
    [
        *[{"count": one} for one in (0, -1, 10_001, "5", True, 1.5)],
        *[{"since": one} for one in (datetime(2030, 1, 1), "now", 5)],
        *[{"until": datetime(2030, 1, 1)}, {"priority": "urgent"}],
        *[{"pattern": one} for one in (5, None, "", "*****", "é", "x" * 129)],
    ],
)
async def test_history_names_what_is_wrong(bus: AsyncContextBus, args: dict[str, Any]) -> None:
    """Before anything is asked of the server."""
    with pytest.raises(InvalidArgument):
        await bus.history(**args)


async def test_a_replay_reaches_one_group(both: AsyncContextBus, reader: Reader) -> None:
    """Events of the history come again, with their ids, to that group alone."""
    worker = reader()
    for number in range(3):
        await both.emit("a", {"n": number})
    for group in ("g", "other"):
        worker.ack(group, *worker.read(group, count=10))
    events = await both.history()
    assert await both.replay(events[:2], group="g") == Replayed("g", 2)
    again = worker.read("g", count=10)
    assert [(one.event_id, one.payload, one.deliveries) for one in again] == [
        (one.event_id, one.payload, 1) for one in events[:2]
    ]
    assert worker.read("other") == []
    with pytest.raises(GroupNotFound):
        await both.replay(events, group="nobody")
    with pytest.raises(InvalidArgument):
        await both.replay(["1-1"], group="g")  # type: ignore[list-item]
    assert (await both.replay([], group="g")).events == 0


# -- dead letters


async def test_a_letter_says_why_and_where_from(both: AsyncContextBus, reader: Reader) -> None:
    """Group, reason, error, worker, deliveries, and the event as it was."""
    worker = reader(bus_max_deliveries=2)
    sent = await both.emit("a", {"n": 1}, priority="high", source="s", correlation_id="c", ordering_key="k")
    kill(worker)
    (letter,) = await both.dead_letters()
    assert (letter.group, letter.reason, letter.error, letter.deliveries) == ("g", "error", "no good", 2)
    assert (letter.event_id, letter.name, letter.priority) == (sent.event_id, "a", "high")
    assert letter.consumer == worker._consumer
    assert letter.event is not None
    assert (letter.event.payload, letter.event.source, letter.event.correlation_id) == ({"n": 1}, "s", "c")
    assert letter.event.stream_id == sent.stream_id
    assert letter.died_ms >= letter.event.emitted_ms
    assert await both.dead_letters(letter_id=letter.letter_id) == [letter]
    assert await both.dead_letters(letter_id=letter.letter_id, group="other") == []
    assert await both.dead_letters(letter_id="1-1") == []
    for bad in ("", "1", "a-1", f"{2**64}-0", "-", 5):
        with pytest.raises(InvalidArgument):
            await both.dead_letters(letter_id=bad)  # type: ignore[arg-type]
    assert await both.dead_letters(group="other") == []


async def test_letters_are_redriven_and_discarded(both: AsyncContextBus, reader: Reader) -> None:
    """By themselves or by their ids; what is not there is not in the answer."""
    worker = reader(bus_max_deliveries=1)
    for number in range(5):
        await both.emit("a", {"n": number})
    kill(worker)
    letters = await both.dead_letters(count=3)
    assert [one.event.payload["n"] for one in letters if one.event] == [4, 3, 2]
    given = await both.redrive([letters[0], letters[1].letter_id, "1-1"])
    assert given == Redriven((letters[0].letter_id, letters[1].letter_id))
    assert (await both.redrive([letters[0]])).letter_ids == ()
    assert [one.payload["n"] for one in worker.read("g", count=9)] == [4, 3]
    assert await both.discard([letters[2], "1-1"]) == Discarded(1)
    assert len(await both.dead_letters()) == (await both.status()).dead == 2
    for wrong in ("letter", "1", 5, "1-", None):
        for ask in (both.redrive, both.discard):
            with pytest.raises(InvalidArgument):
                await ask([wrong])  # type: ignore[list-item]


async def test_many_letters_go_back_in_order(both: AsyncContextBus, reader: Reader) -> None:
    """More than one call of the script takes."""
    worker = reader(bus_max_deliveries=1)
    for number in range(130):
        await both.emit("a", {"n": number})
    kill(worker)
    letters = await both.dead_letters(count=1000)
    assert len((await both.redrive(letters[::-1])).letter_ids) == 130
    assert [one.payload["n"] for _ in range(3) for one in worker.read("g", count=100)] == list(range(130))
