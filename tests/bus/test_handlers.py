"""Handlers: what they are given, what their errors mean, and what may be subscribed."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from lukhas_redis.bus import AsyncContextBus, BusEvent, Reject, Retry, Transaction
from lukhas_redis.errors import InvalidArgument, InvalidId
from tests.bus.conftest import working
from tests.bus.handling import holds, until_finished


class Task(BaseModel):
    """What a handler's payload must fit."""

    n: int
    text: str = "default"


async def test_handlers_get_what_they_ask_for(bus: AsyncContextBus) -> None:
    """By annotation or by place: the event, a model of its payload, a transaction."""
    got: dict[str, tuple[Any, ...]] = {}

    async def plain(event: Any) -> None:
        got["plain"] = (event,)

    async def typed(task: Task) -> None:
        got["typed"] = (task,)

    async def all_of_it(tx: Transaction, event: BusEvent, task: Task) -> None:
        got["all"] = (tx, event, task)

    class Handler:
        async def __call__(self, event: Any, transaction: Any) -> None:
            got["object"] = (event, transaction)

        async def method(self, event: BusEvent, *, loud: bool = False) -> None:
            got["method"] = (event, loud)

    handlers: list[Any] = [plain, typed, all_of_it, Handler(), Handler().method]
    for number, handler in enumerate(handlers):
        bus.subscribe("task.*", handler, group=f"g{number}")
    sent = await bus.emit("task.made", {"n": 5})
    async with working(bus):
        await holds(lambda: len(got) == 5, "five handlers")
    assert got["plain"][0].event_id == got["method"][0].event_id == got["object"][0].event_id == sent.event_id
    assert got["typed"] == (Task(n=5),)
    assert [type(one) for one in got["all"]] == [Transaction, BusEvent, Task]
    assert got["plain"][0].deliveries == 1
    assert got["object"][1].event.event_id == sent.event_id


async def _nothing(event: Any) -> None: ...


def _blocking(event: Any) -> None: ...


async def _four(a: Any, b: Any, c: Any, d: Any) -> None: ...


async def _none() -> None: ...


@pytest.mark.parametrize(
    "args, error",
    [
        *[({"handler": one}, InvalidArgument) for one in (_blocking, _four, _none, 5, None, "handler")],
        *[({"pattern": one}, InvalidArgument) for one in ("", [], "é", "a\n", "*****", 5, [""], ["a"] * 33, None)],
        *[({"group": one}, InvalidId) for one in ("a b", "", "x" * 65, 5, "\ud800")],
        *[({"concurrency": one}, InvalidArgument) for one in (0, -1, 1.5, "1", True)],
        *[({"max_deliveries": one}, InvalidArgument) for one in (0, -1, 1.5, "1", True)],
        *[({"prefetch": one}, InvalidArgument) for one in (-1, 1.0, 10_001)],
        *[({"start": one}, InvalidArgument) for one in ("", "now", None)],
        *[({name: one}, InvalidArgument)
          for name in ("timeout", "hold_seconds", "first_backoff_seconds", "longest_backoff_seconds")
          for one in (0, -1, float("nan"), "1", True, timedelta(days=2))],
    ],
)  # fmt: skip
async def test_a_subscription_is_checked_when_it_is_made(
    bus: AsyncContextBus, args: dict[str, Any], error: type[Exception]
) -> None:
    """Each argument is named; nothing is sent, and nothing is subscribed."""
    with pytest.raises(error):
        bus.subscribe(**{"pattern": "*", "handler": _nothing, "group": "g", **args})
    assert bus.subscriptions == ()
    with pytest.raises(InvalidArgument, match="nothing is subscribed"):
        await bus.run()


async def test_a_group_has_one_handler(bus: AsyncContextBus) -> None:
    """A second one would get half of the events."""
    bus.subscribe("a", _nothing, group="g")
    with pytest.raises(InvalidArgument, match="already"):
        bus.subscribe("b", _nothing, group="g")


async def test_patterns_choose_by_name(bus: AsyncContextBus) -> None:
    """Stars, question marks, several of them; what looks like an operator of Lua is a letter."""
    got: Counter[str] = Counter()

    async def handler(event: BusEvent) -> None:
        got[event.event] += 1

    bus.subscribe(["task.*", "a?c", "x-y_z"], handler, group="g")
    names = ("task.made", "taskXmade", "abc", "ac", "x-y_z", "xxxy_z", "task.", "other")
    for name in names:
        await bus.emit(name)
    async with working(bus):
        await until_finished(bus, "g", events=len(names))
    assert got == Counter(["task.made", "abc", "x-y_z", "task."])


async def test_what_handlers_raise_decides(bus: AsyncContextBus) -> None:
    """Reject and a payload that does not fit end it at once; other errors count; Retry comes back when it says."""
    calls: Counter[str] = Counter()

    async def handler(event: BusEvent, tx: Transaction, task: Task) -> None:
        calls[task.text] += 1
        tx.emit("never", {"of": task.text})
        if task.text == "rejected":
            raise Reject("not for me")
        if task.text == "odd":
            raise Retry("later", delay=-1)
        if task.text == "again" and event.deliveries < 3:
            raise Retry("not yet", delay=0.01)
        if task.text == "broken":
            raise ValueError("é" * 9000)
        if task.text == "cancelled" and event.deliveries < 2:
            raise asyncio.CancelledError

    bus.subscribe("task", handler, group="g", max_deliveries=3)
    for text in ("rejected", "again", "broken", "odd", "cancelled"):
        await bus.emit("task", {"n": 1, "text": text})
    await bus.emit("task", {"n": "many"})
    async with working(bus):
        await until_finished(bus, "g", events=6)
    assert calls == {"rejected": 1, "again": 3, "broken": 3, "odd": 3, "cancelled": 2}
    letters = {(one.event.payload.get("text") if one.event else None): one for one in await bus.dead_letters()}
    assert {text: (one.reason, one.deliveries) for text, one in letters.items()} == {
        "rejected": ("rejected", 1),
        "broken": ("error", 3),
        "odd": ("error", 3),
        None: ("payload", 1),
    }
    assert "not for me" in letters["rejected"].error
    assert letters["rejected"].handler.endswith("handler")
    assert len(letters["broken"].error.encode()) <= 4096
    assert {one.payload["of"] for one in await bus.history("never")} == {"again", "cancelled"}


async def test_a_handler_that_takes_too_long_is_ended(bus: AsyncContextBus) -> None:
    """Its event is tried again and is a letter in the end; what it wanted to change is not done."""
    ended: list[int] = []

    async def handler(event: BusEvent, tx: Transaction) -> None:
        tx.emit("never")
        try:
            await asyncio.sleep(600)
        finally:
            ended.append(event.deliveries)

    bus.subscribe("slow", handler, group="g", timeout=0.05, max_deliveries=2)
    await bus.emit("slow")
    async with working(bus):
        await until_finished(bus, "g", events=1)
    (letter,) = await bus.dead_letters()
    assert (letter.reason, ended, await bus.history("never")) == ("timeout", [1, 2], [])


async def test_what_cannot_be_committed_counts_as_a_failure(bus: AsyncContextBus) -> None:
    """Its error is the letter's; nothing of the transaction is there."""

    async def handler(event: BusEvent, tx: Transaction) -> None:
        tx.emit("never")
        tx.drop("00000000-0000-4000-8000-000000000000")

    bus.subscribe("a", handler, group="g", max_deliveries=2)
    await bus.emit("a")
    async with working(bus):
        await until_finished(bus, "g", events=1)
    (letter,) = await bus.dead_letters()
    assert ("ContextNotFound" in letter.error, letter.deliveries, await bus.history("never")) == (True, 2, [])


async def test_results_are_there_after_the_commit(bus: AsyncContextBus) -> None:
    """A handler that keeps its transaction finds what its changes made."""
    kept: list[Transaction] = []

    async def handler(event: BusEvent, tx: Transaction) -> None:
        tx.preserve("s", {"n": 1})
        kept.append(tx)

    bus.subscribe("a", handler, group="g")
    await bus.emit("a")
    async with working(bus):
        await until_finished(bus, "g", events=1)
    assert [one.version for one in kept[0].results] == [1]
    with pytest.raises(InvalidArgument, match="closed"):
        kept[0].emit("late")
