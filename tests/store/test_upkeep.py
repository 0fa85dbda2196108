"""extend, pin, drop, lifecycle, events: a context's life beside its data."""

from __future__ import annotations

from datetime import timedelta

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import ContextDropped, VersionConflict
from lukhas_redis.models import Event
from lukhas_redis.testing import wait_until
from tests.store.conftest import Look, MakesStores


@pytest.mark.core
async def test_extend_never_shortens(store: AsyncContextStore, look: Look) -> None:
    """A later deadline is taken by all keys, the index and the session; an earlier one changes nothing."""
    one = await store.preserve("s", {}, ttl=600)
    await store.handoff(one.context_id, "a", "b")
    later = await store.extend(one.context_id, timedelta(minutes=20))
    assert later.expires_ms > one.expires_ms
    keys = {k: v.deadline_ms for k, v in look.dump().items() if one.context_id.encode() in k}
    assert len(keys) == 3
    assert set(keys.values()) == {later.expires_ms}
    before = look.dump()
    sooner = await store.extend(one.context_id, 60)
    after = look.dump()
    assert sooner.expires_ms == later.expires_ms
    assert {k for k in after if after[k] != before.get(k)} == {k for k in after if b":req:" in k} - before.keys()
    assert (await store.check()).sound


async def test_drop_removes_every_key_of_the_context(store: AsyncContextStore, look: Look) -> None:
    """After drop no key and no account of the context is left, but the reason."""
    one = await store.preserve("s", {"n": 1})
    await store.handoff(one.context_id, "a", "b")
    await store.restore(one.context_id)
    await store.pin(one.context_id)
    gone = await store.drop(one.context_id, if_version=2)
    assert gone.version == 2
    assert not [key for key in look.dump() if one.context_id.encode() in key]
    stats = await store.stats()
    assert (stats.live, stats.bytes, stats.totals["entries"], stats.totals["dropped"]) == (0, 0, 0, 1)
    assert (await store.check()).sound
    with pytest.raises(ContextDropped):
        await store.drop(one.context_id)


async def test_drop_of_another_version_is_refused(store: AsyncContextStore, look: Look) -> None:
    """if_version protects from dropping what somebody else has just written."""
    one = await store.preserve("s", {})
    before = look.dump()
    with pytest.raises(VersionConflict):
        await store.drop(one.context_id, if_version=2)
    assert look.dump() == before


async def test_pin_and_unpin(store: AsyncContextStore) -> None:
    """A pin is kept through writes, seen in the metadata, and can be taken away; both ways the accounts are sound."""
    one = await store.preserve("s", {"n": 1})
    assert (await store.pin(one.context_id)).pinned
    await store.preserve("s", {"n": 2}, context_id=one.context_id)
    assert (await store.metadata(one.context_id)).pinned
    assert (await store.check()).sound
    assert not (await store.pin(one.context_id, False)).pinned
    assert not (await store.metadata(one.context_id)).pinned
    assert (await store.check()).sound


@pytest.mark.core
async def test_the_lifecycle_document_tells_the_states(make: MakesStores) -> None:
    """created, preserved and restored follow each other as writes and first reads happen; the invariants hold."""
    store = make(shards=4)
    one = await store.preserve("s", {"n": 1}, ttl=120, compression="none")
    assert (await store.lifecycle(one.context_id)).lifecycle_state == "preserved"
    await store.restore(one.context_id)
    await store.restore(one.context_id)
    document = await store.lifecycle(one.context_id)
    assert document.lifecycle_state == "restored"
    assert [(t.from_state, t.to_state) for t in document.state_transitions or ()] == [
        ("created", "preserved"),
        ("preserved", "restored"),
    ]
    await store.preserve("s", {"n": 2}, ttl=120, compression="none", context_id=one.context_id)
    document = await store.lifecycle(one.context_id)
    assert document.lifecycle_state == "preserved"
    assert document.metadata.ttl_seconds == 120
    assert document.metadata.compression_level == 0
    assert document.metadata.checksum == (await store.metadata(one.context_id)).checksum
    assert document.invariants is not None
    assert all(document.invariants.model_dump().values())


async def test_a_context_keeps_16_transitions(store: AsyncContextStore) -> None:
    """However often a context is written and read, its lifecycle document stays bounded."""
    one = await store.preserve("s", {"n": 0})
    for n in range(12):
        await store.restore(one.context_id)
        await store.preserve("s", {"n": n}, context_id=one.context_id)
    document = await store.lifecycle(one.context_id)
    assert len(document.state_transitions or ()) == 16
    assert document.lifecycle_state == "preserved"


async def test_a_read_is_noted_once_a_minute_and_only_when_asked(store: AsyncContextStore, look: Look) -> None:
    """touch=False changes nothing at all; the first touching read notes the time, the next ones change nothing."""
    one = await store.preserve("s", {})
    before = look.dump()
    await store.restore(one.context_id, touch=False)
    assert look.dump() == before
    await store.restore(one.context_id)
    noted = look.dump()
    assert (await store.metadata(one.context_id)).accessed_ms is not None
    assert {k: v.deadline_ms for k, v in noted.items() if k in before} == {k: v.deadline_ms for k, v in before.items()}
    for _ in range(3):
        await store.restore(one.context_id)
    assert look.dump() == noted


@pytest.mark.core
async def test_every_change_has_one_event(make: MakesStores, look: Look) -> None:
    """The events of a context tell its whole life in order, one for each change."""
    store = make(min_ttl_seconds=1)
    one = await store.preserve("s", {"n": 1})
    await store.restore(one.context_id)
    await store.handoff(one.context_id, "a", "b")
    await store.extend(one.context_id, 7200)
    await store.pin(one.context_id)
    await store.drop(one.context_id)
    two = await store.preserve("s", {"n": 2}, context_id=one.context_id, ttl=1)
    wait_until(lambda: look.now_ms() > two.expires_ms, what="the deadline to pass")
    await store.preserve("s", {"n": 3}, context_id=one.context_id)
    told = await store.events()
    assert [(e.event, e.version) for e in told] == [
        ("context.preserve", 1),
        ("context.handoff", 2),
        ("context.extend", 2),
        ("context.pin", 2),
        ("context.drop", 0),
        ("context.preserve", 1),
        ("context.expire", 0),
        ("context.preserve", 1),
    ]
    assert {e.context_id for e in told} == {one.context_id}
    assert abs(told[0].at_ms - one.created_ms) <= 1  # Redis 7.0 dates the entry when the command began, TIME goes on
    assert await store.events(after=told[5].event_id) == told[6:]
    assert await store.events(count=2) == told[:2]


async def test_events_are_a_bounded_window(make: MakesStores) -> None:
    """The history holds about as many events as configured, and the newest are among them."""
    store = make(event_window_entries=10)
    made = [await store.preserve("s", {"n": n}) for n in range(300)]
    told: list[Event] = await store.events(count=1000)
    assert 10 <= len(told) < 200
    assert told[-1].context_id == made[-1].context_id
