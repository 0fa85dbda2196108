"""A tenant that has no room for what handlers did: waited out, and never the fault of an event."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from lukhas_redis.bus import AsyncContextBus, BusEvent, ContextBus, Transaction
from lukhas_redis.ops import bus as bus_ops
from lukhas_redis.testing import wait_until_async
from tests.bus.conftest import Look, MakesBuses, working
from tests.bus.handling import holds, until_finished

WORDS = {"throttled": "LKTHROTTLED", "full": "LKFULL", "backlog": "LKBACKLOG"}
# Stored at a megabit a second, so many bytes leave no room for anything else for half a minute.
HALF_A_MINUTE = 4_000_000


@asynccontextmanager
async def obstacle(kind: str, bus: AsyncContextBus, reader: ContextBus) -> AsyncGenerator[None]:
    """Whatever a handler of `wanting` wants is refused until the block ends."""
    store = bus.store
    if kind == "throttled":
        await store.set_flag("max_mbps", "1")
        await store.preserve("s", {"x": b"a" * HALF_A_MINUTE}, compression="none")
    elif kind == "full":
        await store.preserve("s", {})
        await store.set_flag("policy", "reject")
        await store.set_flag("max_entries", "1")
    else:
        reader.read("lazy")
        for _ in range(4):
            await bus.emit("filling", priority="low")
    yield
    if kind == "throttled":
        await store.set_flag("max_mbps", "0")
    elif kind == "full":
        await store.set_flag("max_entries", "100")
    else:
        await bus.retire("lazy", force=True)


def wanting(calls: list[int]) -> Callable[[BusEvent, Transaction], Awaitable[None]]:
    """A handler that writes a context and emits to the low stream; `calls` gets the deliveries."""

    async def handler(event: BusEvent, tx: Transaction) -> None:
        calls.append(event.deliveries)
        tx.preserve("s", {"n": 1})
        tx.emit("done", priority="low")

    return handler


async def refusals(look: Look, kind: str, more: int) -> None:
    """Until the server has refused so many times more."""

    def count() -> int:
        info = look.client.info("errorstats")
        assert isinstance(info, dict)
        return int(info.get(f"errorstat_{WORDS[kind]}", {"count": 0})["count"])

    before = count()

    async def grown() -> bool:
        return count() >= before + more

    await wait_until_async(grown, timeout=60, what=f"{more} refusals")


@pytest.mark.parametrize("kind", WORDS)
async def test_a_commit_waits_for_room(
    kind: str, make: MakesBuses, reader: Callable[..., ContextBus], look: Look
) -> None:
    """The handler is called once; when there is room what it did is committed, though one delivery is all it has."""
    bus, calls = make(bus_max_entries=4), list[int]()
    bus.subscribe("a", wanting(calls), group="g", max_deliveries=1)
    async with working(bus):
        async with obstacle(kind, bus, reader()):
            await bus.emit("a")
            await refusals(look, kind, 3)
            assert (await bus.history("done"), await bus.dead_letters()) == ([], [])
        await holds(lambda: bus.progress.handled, "the event to be handled")
        assert (bus.progress.dead, calls) == (0, [1])
    assert [one.event for one in await bus.history("done")] == ["done"]


@pytest.mark.parametrize("kind", WORDS)
async def test_what_found_no_room_for_long_comes_again_and_does_not_count(
    kind: str, make: MakesBuses, reader: Callable[..., ContextBus]
) -> None:
    """Given back after the time of a hold, so that others have its place; each time it is the first delivery."""
    bus, calls = make(bus_max_entries=4), list[int]()
    bus.subscribe("a", wanting(calls), group="g", max_deliveries=1, hold_seconds=0.2)
    async with working(bus):
        async with obstacle(kind, bus, reader()):
            await bus.emit("a")
            await holds(lambda: len(calls) >= 3, "three calls")
            assert await bus.dead_letters() == []
        await holds(lambda: bus.progress.handled, "the event to be handled")
        assert (bus.progress.retried, bus.progress.dead, set(calls)) == (0, 0, {1})
    assert [one.event for one in await bus.history("done")] == ["done"]


async def test_emitters_that_fill_their_own_stream_go_on_with_more_room(make: MakesBuses) -> None:
    """They wait for each other, and lose nothing; a worker for whom the stream may be longer ends that."""

    async def handler(event: BusEvent, tx: Transaction) -> None:
        if event.event == "a":
            tx.emit("b")

    small, large = make(bus_max_entries=4), make(bus_max_entries=40)
    for bus in (small, large):
        bus.subscribe("*", handler, group="g", concurrency=2, max_deliveries=1, hold_seconds=0.1)
    await bus.store.run(bus_ops.join(bus.store.space, "g", waiting="@w"))
    for _ in range(4):
        await small.emit("a")
    async with working(small):
        await holds(lambda: small.progress.claims > 6, "claims of what came again")
        assert ((await small.status()).dead, small.progress.handled) == (0, 0)
    async with working(large):
        await until_finished(large, "g", events=8)
    assert ((await large.status()).dead, large.progress.handled) == (0, 8)


async def test_what_a_handler_itself_was_refused_is_its_failure(make: MakesBuses) -> None:
    """Only commits are waited out: a handler that asks the store, and lets its error out, has failed."""
    bus, calls = make(), list[int]()

    async def handler(event: BusEvent) -> None:
        calls.append(event.deliveries)
        await bus.store.preserve("s", {})

    bus.subscribe("a", handler, group="g", max_deliveries=2)
    await bus.store.preserve("s", {})
    await bus.store.set_flag("policy", "reject")
    await bus.store.set_flag("max_entries", "1")
    await bus.emit("a")
    async with working(bus):
        await until_finished(bus, "g", events=1)
    (letter,) = await bus.dead_letters()
    assert ("StoreFull" in letter.error, calls) == (True, [1, 2])
