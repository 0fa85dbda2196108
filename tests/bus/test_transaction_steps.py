"""commit: what has to be done before it can be made, how durable it is, and the dry run that does none of it."""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis.bus import AsyncContextBus, NewEvent, Transaction
from lukhas_redis.errors import (
    Backlog,
    LukhasRedisError,
    TenantPaused,
)
from lukhas_redis.ops import bus as bus_ops
from lukhas_redis.testing import assert_same
from tests.bus.conftest import Look, MakesBuses
from tests.bus.handling import begun, commit
from tests.fix_servers import StartsServers

# -- what has to be done first


async def test_a_full_context_is_folded_first(make: MakesBuses) -> None:
    """Too many appended parts become one body, then the commit is made."""
    bus = make(max_segments=2)
    one = await bus.store.preserve("s", {"log": []})
    for number in range(2):
        await bus.store.append(one.context_id, ["log"], [number])
    event, tx = await begun(bus)
    tx.append(one.context_id, ["log"], [2])
    tx.append(one.context_id, ["log"], [3])
    await commit(bus, event, tx)
    assert (await bus.store.restore(one.context_id)).data == {"log": [0, 1, 2, 3]}


async def test_another_worker_that_came_between_is_looked_at(make: MakesBuses) -> None:
    """Where the structure is not what it was, the path is looked for again."""
    bus, other = make(near_cache="on"), make()
    one = await bus.store.preserve("s", {"log": [], "a": {}})
    await bus.store.restore(one.context_id)
    event, tx = await begun(bus)
    tx.append(one.context_id, ["log"], [1])
    await other.store.patch(one.context_id, {"a": [1, 2], "log": [7]})
    await commit(bus, event, tx)
    assert (await other.store.restore(one.context_id)).data == {"log": [7, 1], "a": [1, 2]}


async def test_others_make_room(make: MakesBuses) -> None:
    """Eviction chooses contexts that the commit does not touch, and all of it is one step."""
    bus = make()
    first = [await bus.store.preserve("s", {"log": []}) for _ in range(3)]
    await bus.store.set_flag("max_entries", "3")
    await bus.store.set_flag("policy", "evict_oldest")
    event, tx = await begun(bus)
    tx.append(first[0].context_id, ["log"], [1])
    made = [tx.preserve("s", {"n": number}) for number in range(2)]
    done = await commit(bus, event, tx)
    assert [result.evicted for result in done.results] == [0, 1, 1]
    assert {one.context_id async for one in bus.store.list()} == {first[0].context_id, *made}
    assert (await bus.store.check()).sound


async def test_what_is_finished_makes_room_for_events(make: MakesBuses) -> None:
    """A full stream is trimmed first; where that does not help nothing is written."""
    bus = make(bus_max_entries=3)
    event, tx = await begun(bus, priority="high")
    for _ in range(3):
        await bus.emit("filler")
    tx.emit("next")
    with pytest.raises(Backlog):
        await commit(bus, event, tx)
    (waiting,) = [one for one in (await bus.status()).groups if one.name == "g"]
    assert waiting.pending == 1
    await bus.retire("g", force=True)
    event, tx = await begun(bus, priority="high")
    tx.emit("next")
    await bus.store.run(bus_ops.ack(bus.store.space, "g", "w1", []))
    with pytest.raises(Backlog):
        await commit(bus, event, tx)


async def test_a_paused_tenant_takes_no_changes(bus: AsyncContextBus, look: Look) -> None:
    """But the end of a delivery that has none."""
    one = await bus.store.preserve("s", {"log": []})
    event, tx = await begun(bus)
    tx.append(one.context_id, ["log"], [1])
    await bus.store.set_mode("paused")
    before = look.dump()
    with pytest.raises(TenantPaused):
        await commit(bus, event, tx)
    assert_same(before, look.dump())
    await commit(bus, event, Transaction(bus.store.space, event))
    assert (await bus.status()).groups[0].pending == 0


async def test_a_commit_has_the_durability_of_its_operations(
    fresh_server: StartsServers, tenant: str, bus: AsyncContextBus
) -> None:
    """The highest that one of them asks for; where it is not to be had nothing was written."""
    sound = fresh_server(config={"appendonly": "yes", "appendfsync": "always"})
    async with AsyncContextBus.connect(sound.url, tenant=tenant) as other:
        for one in (other, bus):
            kept = await one.store.preserve("s", {"log": []})
            event, tx = await begun(one)
            tx.append(kept.context_id, ["log"], [1])
            tx.append(kept.context_id, ["log"], [2], durability="local")
            if one is other:
                await commit(one, event, tx)
            else:
                with pytest.raises(LukhasRedisError, match="durability"):
                    await commit(one, event, tx)
            wanted = {"log": [1, 2]} if one is other else {"log": []}
            assert (await one.store.restore(kept.context_id)).data == wanted


# -- dry runs


async def test_a_dry_commit_answers_as_live(bus: AsyncContextBus, look: Look) -> None:
    """Versions and counts are those of the live one that follows; nothing is written and nothing is finished."""
    one = await bus.store.preserve("s", {"log": []})
    event, tx = await begun(bus)
    tx.append(one.context_id, ["log"], [1])
    tx.handoff(tx.preserve("s", {"n": 1}), "a", "b")
    tx.patch(one.context_id, {"n": 1})
    tx.emit("next")
    before = look.dump()
    dry = await commit(bus, event, tx, dry_run=True)
    assert_same(before, look.dump())
    live = await commit(bus, event, tx)
    assert [result.version for result in dry.results] == [result.version for result in live.results]
    assert (dry.dry_run, dry.emitted, live.dry_run, live.emitted) == (True, 1, False, 1)
    assert all(result.dry_run for result in dry.results)


@pytest.mark.parametrize("what", ["fold", "purge", "evict"])
async def test_a_dry_commit_does_nothing_first(make: MakesBuses, look: Look, what: str) -> None:
    """Neither folding nor sweeping nor evicting: what live does before the commit is left undone."""
    bus = make(max_segments=2, min_ttl_seconds=1)
    one = await bus.store.preserve("s", {"log": []})
    if what == "fold":
        for number in range(2):
            await bus.store.append(one.context_id, ["log"], [number])
    else:
        for _ in range(12):
            await bus.store.preserve("s", {"log": []}, ttl=1 if what == "purge" else 600)
        await bus.store.set_flag("max_entries", "2" if what == "purge" else "13")
        await bus.store.set_flag("policy", "evict_oldest" if what == "evict" else "reject")
    event, tx = await begun(bus)
    tx.append(one.context_id, ["log"], [5])
    tx.preserve("s", {"n": 1})
    if what == "purge":
        ids: Any = look.client.zrange(look.keys.index, 0, 11)
        look.client.zadd(look.keys.index, dict.fromkeys(ids, 1))
    before = look.dump()
    dry = await commit(bus, event, tx, dry_run=True)
    assert (dry.dry_run, len(dry.results)) == (True, 2)
    assert {key: one for key, one in look.dump().items() if one.deadline_ms is None} == {
        key: one for key, one in before.items() if one.deadline_ms is None
    }


@pytest.mark.parametrize("data", [{"n": 1}, {"x": b"y" * 100_000}])
@pytest.mark.parametrize("used", [True, False])
async def test_a_dry_write_with_events(bus: AsyncContextBus, look: Look, data: dict[str, Any], *, used: bool) -> None:
    """Also a large one, and also of a tenant that nobody has used: no key is made, not even the tenant's record."""
    if used:
        await bus.emit("first")
    before = look.dump()
    made = await bus.store.preserve("s", data, compression="none", emit=NewEvent("made"), dry_run=True)
    assert (made.dry_run, made.version) == (True, 1)
    assert_same(before, look.dump())
