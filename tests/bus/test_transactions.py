"""commit: what a handler changed and the end of its event, in one step, through the operations of the package."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from lukhas_redis import ops
from lukhas_redis.bus import AsyncContextBus, NewEvent, Transaction
from lukhas_redis.errors import (
    ContextNotFound,
    DeliveryLost,
    InvalidArgument,
    LukhasRedisError,
    OwnerConflict,
    PayloadTooLarge,
    StoreFull,
    VersionConflict,
)
from lukhas_redis.ops import bus as bus_ops
from lukhas_redis.testing import assert_same
from tests.bus.conftest import Look, MakesBuses
from tests.bus.handling import begun, commit


async def test_several_changes_of_one_context(bus: AsyncContextBus) -> None:
    """Two appends, a handoff and a patch; each has its result, and the store reads what all of them made."""
    store = bus.store
    one = await store.preserve("s", {"log": [], "state": "new"})
    event, tx = await begun(bus)
    tx.append(one.context_id, ["log"], [1])
    tx.append(one.context_id, ["log"], [2, b"\x00"])
    tx.handoff(one.context_id, "claude", "gpt")
    tx.patch(one.context_id, {"state": "done"})
    tx.emit("next", {"of": one.context_id}, priority="high")
    done = await commit(bus, event, tx)
    assert [result.version for result in done.results] == [2, 3, 4, 5]
    assert (done.emitted, done.dry_run) == (1, False)
    restored = await store.restore(one.context_id)
    assert (restored.data, restored.metadata.owner) == ({"log": [1, 2, b"\x00"], "state": "done"}, "gpt")
    assert [hop.destination for hop in await store.hops(one.context_id)] == ["gpt"]
    assert (await store.check()).sound
    (group,) = (await bus.status()).groups
    assert (group.pending, group.counts["done"]) == (0, 1)


async def test_what_is_held_near_follows(make: MakesBuses) -> None:
    """A store that holds the context knows what its own commit made of it, and one that does not sees it too."""
    bus, other = make(near_cache="on"), make()
    one = await bus.store.preserve("s", {"log": [0]})
    for number in (1, 2):
        event, tx = await begun(bus)
        tx.append(one.context_id, ["log"], [number])
        tx.append(one.context_id, ["log"], [number * 10])
        await commit(bus, event, tx)
        wanted = {"log": [0, 1, 10] if number == 1 else [0, 1, 10, 2, 20]}
        assert (await bus.store.restore(one.context_id)).data == wanted
        assert (await other.store.restore(one.context_id)).data == wanted


async def test_events_say_what_caused_them(bus: AsyncContextBus) -> None:
    """Correlation and trace go on, the cause is the event handled; what is given stays as given."""
    event, tx = await begun(bus, correlation_id="c", traceparent="00-trace")
    tx.emit("one")
    tx.emit(
        NewEvent("two", correlation_id="own", causation_id="mine", traceparent="t", ordering_key="k", priority="low")
    )
    await commit(bus, event, tx)
    (one,), (two,) = await bus.history("one"), await bus.history("two")
    assert (one.correlation_id, one.causation_id, one.traceparent) == ("c", event.event_id, "00-trace")
    assert (two.correlation_id, two.causation_id, two.traceparent, two.priority) == ("own", "mine", "t", "low")
    event, tx = await begun(bus, priority="critical")
    tx.emit("three")
    await commit(bus, event, tx)
    assert (await bus.history("three"))[0].correlation_id == event.event_id


async def test_a_new_context_is_handed_on_at_once(bus: AsyncContextBus) -> None:
    """With a new deadline, which its session's list follows, without a look at the server in between."""
    event, tx = await begun(bus)
    made = tx.preserve("session", {"n": 1}, ttl=60)
    tx.handoff(made, "claude", "gpt", ttl=120)
    tx.extend(made, 3600)
    done = await commit(bus, event, tx)
    assert (done.results[0].context_id, done.results[1].hop) == (made, 1)
    assert [one.context_id async for one in bus.store.list(session_id="session")] == [made]
    assert (await bus.store.metadata(made)).owner == "gpt"
    assert (await bus.store.check()).sound


FAILS: list[tuple[str, Any, type[LukhasRedisError]]] = [
    ("version", lambda tx, one: tx.append(one, ["log"], [2], if_version=9), VersionConflict),
    ("missing", lambda tx, one: tx.handoff(str(uuid4()), "a", "b"), ContextNotFound),
    ("owner", lambda tx, one: tx.handoff(one, "nobody", "b"), OwnerConflict),
    ("quota", lambda tx, one: tx.preserve("s", {"x": 1}), StoreFull),
    ("path", lambda tx, one: tx.append(one, ["nowhere"], [1]), InvalidArgument),
    ("dropped", lambda tx, one: (tx.drop(one), tx.extend(one, 3600)), ContextNotFound),
]


@pytest.mark.parametrize("name, fail, error", [pytest.param(*one, id=one[0]) for one in FAILS])
@pytest.mark.parametrize("first", [True, False])
async def test_one_that_fails_writes_nothing(
    bus: AsyncContextBus, look: Look, name: str, fail: Any, error: type[Exception], *, first: bool
) -> None:
    """Whichever it is and wherever it stands: no context, no event, no end of the delivery, and its own error."""
    one, two = await bus.store.preserve("s", {"log": []}), await bus.store.preserve("s", {"log": []})
    await bus.store.handoff(one.context_id, "a", "owner")
    if name == "quota":
        await bus.store.set_flag("max_entries", "2")
    event, tx = await begun(bus)
    if first:
        fail(tx, one.context_id)
    tx.append(two.context_id, ["log"], [1])
    tx.emit("next")
    if not first:
        fail(tx, one.context_id)
    before = look.dump()
    with pytest.raises(error):
        await commit(bus, event, tx)
    assert_same(before, look.dump())


async def test_a_worker_that_lost_the_event_writes_nothing(bus: AsyncContextBus, look: Look) -> None:
    """Another's, or finished before: each is told."""
    one = await bus.store.preserve("s", {"log": []})
    event, tx = await begun(bus)
    tx.append(one.context_id, ["log"], [1])
    before = look.dump()
    with pytest.raises(DeliveryLost) as caught:
        await commit(bus, event, tx, worker="w2")
    assert caught.value.fields["state"] == "FENCED"
    assert_same(before, look.dump())
    await commit(bus, event, tx)
    before = look.dump()
    with pytest.raises(DeliveryLost) as caught:
        await commit(bus, event, tx)
    assert caught.value.fields["state"] == "GONE"
    assert_same(before, look.dump())
    assert (await bus.store.restore(one.context_id)).data == {"log": [1]}


@pytest.mark.parametrize("what", ["append", "emit"])
async def test_sixteen_and_no_more(bus: AsyncContextBus, what: str) -> None:
    """Of changes and of events; the seventeenth is refused when it is added, and before anything is sent."""
    one = await bus.store.preserve("s", {"log": []})
    event, tx = await begun(bus)

    def add(number: int) -> None:
        if what == "append":
            tx.append(one.context_id, ["log"], [number])
        else:
            tx.emit("next", {"n": number}, delay=3600)

    for number in range(16):
        add(number)
    with pytest.raises(InvalidArgument):
        add(16)
    space = bus.store.space
    many = [ops.append(space, one.context_id, ["log"], [number]) for number in range(17)]
    with pytest.raises(InvalidArgument):
        await bus.store.run(bus_ops.commit(space, many, delivery=event, group="g", consumer="w1"))
    done = await commit(bus, event, tx)
    assert (len(done.results), done.emitted) == ((16, 0) if what == "append" else (0, 16))
    with pytest.raises(InvalidArgument):
        add(1)


async def test_contexts_of_another_shard_are_refused(make: MakesBuses, look: Look) -> None:
    """One that the event was not emitted for; what it was emitted for can be changed, and further events stay there."""
    bus = make(shards=8)
    made = [await bus.store.preserve(f"session-{number}", {"log": []}) for number in range(30)]
    one = made[0]
    event, tx = await begun(bus, session_id="session-0")
    space = bus.store.space
    tx.append(next(far.context_id for far in made if space.shard_for(far.context_id).tag != event.shard), ["log"], [1])
    before = look.dump()
    with pytest.raises(InvalidArgument, match="shard"):
        await commit(bus, event, tx)
    assert_same(before, look.dump())
    tx = Transaction(bus.store.space, event)
    tx.append(one.context_id, ["log"], [1])
    tx.emit("next")
    await commit(bus, event, tx)
    (following,) = await bus.history("next")
    assert following.shard == event.shard == bus.store.space.shard_for(following.event_id).tag


@pytest.mark.parametrize("option", [{"emit": NewEvent("b")}, {"dry_run": True}])
async def test_an_operation_brings_no_step_of_its_own(bus: AsyncContextBus, look: Look, option: dict[str, Any]) -> None:
    """Events and dry runs are the transaction's; an operation with its own would be done apart from the rest."""
    one = await bus.store.preserve("s", {"log": []})
    event, tx = await begun(bus)
    before = look.dump()
    with pytest.raises(InvalidArgument):
        tx.append(one.context_id, ["log"], [1], **option)
    if "emit" in option:
        alone = ops.append(bus.store.space, one.context_id, ["log"], [1], **option)
        with pytest.raises(InvalidArgument):
            await bus.store.run(bus_ops.commit(bus.store.space, [alone], delivery=event, group="g", consumer="w1"))
    assert_same(before, look.dump())


async def test_too_large_for_a_commit_is_said(bus: AsyncContextBus, look: Look) -> None:
    """Contexts that travel beside the script, and payloads over the limit."""
    event, tx = await begun(bus)
    tx.preserve("s", {"x": b"y" * 40_000}, compression="none")
    before = look.dump()
    with pytest.raises(InvalidArgument, match="too large"):
        await commit(bus, event, tx)
    tx = Transaction(bus.store.space, event)
    tx.emit("next", {"x": b"y" * 70_000})
    with pytest.raises(PayloadTooLarge):
        await commit(bus, event, tx)
    assert_same(before, look.dump())


async def test_a_patched_context_cannot_be_appended_to(bus: AsyncContextBus) -> None:
    """Its structure is not known before the commit; the order is named."""
    one = await bus.store.preserve("s", {"log": []})
    _, tx = await begun(bus)
    tx.patch(one.context_id, {"log": [5]})
    with pytest.raises(InvalidArgument, match="before"):
        tx.append(one.context_id.upper(), ["log"], [1])
