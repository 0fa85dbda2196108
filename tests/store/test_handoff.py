"""handoff: owner, version, hop, deadline and event change together, the data stays."""

from __future__ import annotations

import asyncio

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import LukhasRedisError, OwnerConflict, VersionConflict
from lukhas_redis.models import Handoff
from tests.store.conftest import Look, MakesStores


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_a_handoff_moves_the_owner_and_records_the_hop(make: MakesStores, shards: int) -> None:
    """After each handoff the owner, the version, the count and the record agree; data, digest and deadline stay."""
    store = make(shards=shards)
    one = await store.preserve("s", {"n": 1})
    before = await store.metadata(one.context_id)
    first = await store.handoff(one.context_id, "claude", "gpt", metadata={"why": "cost", "né": [1, None]})
    second = await store.handoff(one.context_id, "gpt", "human")
    assert [(h.version, h.hop, h.expires_ms) for h in (first, second)] == [
        (2, 1, one.expires_ms),
        (3, 2, one.expires_ms),
    ]
    known = (found := await store.restore(one.context_id)).metadata
    assert (found.data, known.owner, known.version, known.hop_count) == ({"n": 1}, "human", 3, 2)
    assert (known.digest, known.sequence, known.incarnation) == (before.digest, before.sequence, before.incarnation)
    hops = await store.hops(one.context_id)
    assert [(h.number, h.source, h.destination, h.version, h.metadata) for h in hops] == [
        (1, "claude", "gpt", 2, {"why": "cost", "né": [1, None]}),
        (2, "gpt", "human", 3, None),
    ]


async def test_the_latency_is_recorded_with_the_next_hop(store: AsyncContextStore) -> None:
    """What the caller measured of a handoff stands in its result and in the record of the following hop."""
    one = await store.preserve("s", {})
    first = await store.handoff(one.context_id, "a", "b")
    await store.handoff(one.context_id, "b", "c")
    hops = await store.hops(one.context_id)
    assert first.latency_ms > 0
    assert hops[0].previous_ms == 0
    assert hops[1].previous_ms == pytest.approx(first.latency_ms, abs=0.001)


async def test_only_the_owner_hands_over(store: AsyncContextStore, look: Look) -> None:
    """A context nobody owns is handed over by anybody; one that has an owner only by that one."""
    one = await store.preserve("s", {})
    await store.handoff(one.context_id, "anybody", "b")
    before = look.dump()
    with pytest.raises(OwnerConflict) as caught:
        await store.handoff(one.context_id, "anybody", "c")
    assert caught.value.fields["owner"] == "b"
    with pytest.raises(VersionConflict) as stale:
        await store.handoff(one.context_id, "b", "c", if_version=1)
    assert stale.value.fields["actual"] == 2
    assert look.dump() == before
    assert (await store.handoff(one.context_id, "b", "c", if_version=2)).version == 3


async def test_the_last_32_hops_are_kept_and_the_count_is_exact(store: AsyncContextStore, look: Look) -> None:
    """After 40 handoffs the record holds hops 9 to 40, the metadata says 40, and the hash stays packed."""
    one = await store.preserve("s", {})
    for n in range(40):
        await store.handoff(one.context_id, f"p{n}", f"p{n + 1}", metadata={"n": n})
    hops = await store.hops(one.context_id)
    assert [h.number for h in hops] == list(range(9, 41))
    assert [h.metadata for h in hops] == [{"n": n} for n in range(8, 40)]
    assert (await store.metadata(one.context_id)).hop_count == 40
    assert look.command("OBJECT", "ENCODING", look.keys.ctx(one.context_id)) in (b"listpack", "listpack")


async def test_a_handoff_may_set_a_new_deadline(store: AsyncContextStore, look: Look) -> None:
    """With a ttl every key of the context gets the new deadline, sooner or later than before."""
    one = await store.preserve("s", {}, ttl=600)
    for ttl in (1200, 60):
        source = (await store.metadata(one.context_id)).owner or "a"
        moved = await store.handoff(one.context_id, source, "b", ttl=ttl)
        keys = {k: v.deadline_ms for k, v in look.dump().items() if one.context_id.encode() in k}
        assert set(keys.values()) == {moved.expires_ms}
        assert look.command("ZSCORE", look.keys.index, one.context_id) in (
            float(moved.expires_ms),
            str(moved.expires_ms).encode(),
        )
    assert (await store.check()).sound


@pytest.mark.core
async def test_of_many_that_hand_over_the_same_version_one_wins(store: AsyncContextStore) -> None:
    """Twenty workers hand the same version over at once: one succeeds, the others are told the version moved."""
    one = await store.preserve("s", {})

    async def hand(n: int) -> Handoff | LukhasRedisError:
        try:
            return await store.handoff(one.context_id, "a", f"p{n}", if_version=1)
        except LukhasRedisError as error:
            return error

    done = await asyncio.gather(*(hand(n) for n in range(20)))
    winners = [r for r in done if isinstance(r, Handoff)]
    assert len(winners) == 1
    assert {type(r) for r in done} <= {Handoff, VersionConflict, OwnerConflict}
    assert (await store.metadata(one.context_id)).owner == winners[0].destination
    assert len(await store.hops(one.context_id)) == 1


async def test_preserving_again_keeps_owner_and_hops(store: AsyncContextStore) -> None:
    """A write of the data under the same incarnation keeps who owns the context and how it got there."""
    one = await store.preserve("s", {"n": 1})
    await store.handoff(one.context_id, "a", "b")
    await store.preserve("s", {"n": 2}, context_id=one.context_id)
    known = await store.metadata(one.context_id)
    assert (known.owner, known.hop_count, known.version) == ("b", 1, 3)
    assert len(await store.hops(one.context_id)) == 1
