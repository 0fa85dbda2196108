"""preserve and restore: what comes back is what went in, under the version and deadline that were promised."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import (
    ContextNotFound,
    InvalidArgument,
    InvalidId,
    SessionConflict,
    VersionConflict,
)
from lukhas_redis.keys import session_bits
from lukhas_redis.models import Context, Preserved
from tests.store.conftest import Look, MakesStores

RICH: dict[Any, Any] = {
    "when": datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    "gap": timedelta(days=-1, microseconds=7),
    "id": UUID(int=7, version=4),
    "price": Decimal("1.10"),
    "raw": bytes(range(256)),
    "seen": {1, "1", (1, "x")},
    "frozen": frozenset({b"a"}),
    "pair": (1, [2, (3,)]),
    "huge": 2**200,
    ("a", 1): {None: "none", 2.5: True},
    "text": "naïve ☃ 😀 \x00\r\n",
}


def _equal(one: Any, other: Any) -> bool:
    return bool(one == other) and repr(one) == repr(other) and type(one) is type(other)


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_what_comes_back_is_what_went_in(make: MakesStores, shards: int) -> None:
    """A restored context equals the preserved one in value and type, whatever the number of shards."""
    store = make(shards=shards)
    made = [await store.preserve(f"session {n}", {**RICH, "n": n}) for n in range(4)]
    for n, one in enumerate(made):
        found = await store.restore(one.context_id)
        assert _equal({**RICH, "n": n}["when"].utcoffset(), found.data["when"].utcoffset())
        for key, value in {**RICH, "n": n}.items():
            assert type(found.data[key]) is type(value)
            assert found.data[key] == value
        assert found.data["when"].tzinfo.key == "Europe/Berlin"
        assert found.data["when"].fold == 1
        assert found.version == one.version == 1
        assert found.metadata.checksum == one.checksum
        assert found.metadata.session_id == f"session {n}"


@pytest.mark.core
async def test_a_write_counts_versions_and_keeps_the_incarnation(store: AsyncContextStore) -> None:
    """Each preserve of an id adds one to its version; the creation time and the incarnation stay."""
    first = await store.preserve("s", {"n": 1})
    second = await store.preserve("s", {"n": 2}, context_id=first.context_id)
    assert (first.version, second.version) == (1, 2)
    assert second.incarnation == first.incarnation
    assert second.created_ms == first.created_ms
    found = await store.restore(first.context_id)
    assert (found.data, found.version, found.metadata.incarnation) == ({"n": 2}, 2, first.incarnation)


@pytest.mark.core
async def test_if_version_writes_only_what_was_read(store: AsyncContextStore, look: Look) -> None:
    """if_version is compare-and-set: 0 only creates, a stale version is refused with the actual one, nothing moves."""
    context_id = str(uuid4())
    await store.preserve("s", {"n": 1}, context_id=context_id, if_version=0)
    await store.preserve("s", {"n": 2}, context_id=context_id, if_version=1)
    before = look.dump()
    for stale in (0, 1, 3):
        with pytest.raises(VersionConflict) as caught:
            await store.preserve("s", {"n": 9}, context_id=context_id, if_version=stale)
        assert caught.value.fields["actual"] == 2
    with pytest.raises(VersionConflict) as caught:
        await store.preserve("s", {"n": 9}, if_version=1)
    assert caught.value.fields["actual"] == 0
    assert look.dump() == before
    assert (await store.restore(context_id, touch=False)).data == {"n": 2}


async def test_an_id_belongs_to_one_session(store: AsyncContextStore, look: Look) -> None:
    """Preserving a live id under another session is refused and changes nothing."""
    one = await store.preserve("mine", {"n": 1})
    before = look.dump()
    with pytest.raises(SessionConflict):
        await store.preserve("theirs", {"n": 2}, context_id=one.context_id)
    assert look.dump() == before


async def test_the_deadline_is_one_for_all_keys_and_reads_never_move_it(store: AsyncContextStore, look: Look) -> None:
    """Every key of a context carries the same absolute deadline; restore and metadata leave it alone."""
    one = await store.preserve("s", {"n": 1}, ttl=120)
    await store.handoff(one.context_id, "a", "b")
    await store.preserve("s", {"n": 2}, ttl=timedelta(minutes=3), context_id=one.context_id)
    known = await store.metadata(one.context_id)
    await store.restore(one.context_id)
    deadlines = {k: v.deadline_ms for k, v in look.dump().items() if one.context_id.encode() in k}
    assert len(deadlines) == 4
    assert set(deadlines.values()) == {known.expires_ms}
    assert known.expires_ms == known.updated_ms + 180_000
    assert known.expires_at == datetime.fromtimestamp(known.expires_ms / 1000, UTC)


async def test_minted_ids_share_the_shard_of_their_session(make: MakesStores) -> None:
    """Ids the store mints start with bits of their session, and are UUIDs of version 4."""
    store = make(shards=4)
    for one in [await store.preserve("a session", {"n": n}) for n in range(3)]:
        assert one.context_id.startswith(session_bits("a session"))
        assert UUID(one.context_id).version == 4


async def test_ids_are_taken_in_any_spelling(store: AsyncContextStore) -> None:
    """A context id may be a UUID or upper-case text; it is one and the same context."""
    name = uuid4()
    await store.preserve("s", {"n": 1}, context_id=name)  # type: ignore[arg-type]
    assert (await store.restore(str(name).upper())).data == {"n": 1}


async def test_what_is_returned_belongs_to_the_caller(store: AsyncContextStore) -> None:
    """Changing restored data, or the data given to preserve afterwards, changes nothing that is stored."""
    given = {"items": [1]}
    one = await store.preserve("s", given)
    given["items"].append(2)
    first = await store.restore(one.context_id)
    first.data["items"].append(3)
    assert (await store.restore(one.context_id)).data == {"items": [1]}


@pytest.mark.parametrize("level", ["none", "light", "standard", "aggressive", "auto", 0, 1, 6, 9])
async def test_every_compression_level_is_lossless(store: AsyncContextStore, level: str | int) -> None:
    """Whatever the compression, the data comes back, and the metadata tells the sizes."""
    data = {"text": "all work and no play " * 500}
    one = await store.preserve("s", data, compression=level)
    found = await store.restore(one.context_id)
    assert found.data == data
    assert found.metadata.raw_bytes == one.raw_bytes > 10_000
    assert found.metadata.stored_bytes == one.stored_bytes
    assert (one.stored_bytes < one.raw_bytes) == (level not in ("none", 0))
    assert found.metadata.compression == {0: "none", 1: "light", 6: "standard", 9: "aggressive"}[one.level]


@pytest.mark.core
@pytest.mark.parametrize("shards", [1, 4])
async def test_many_are_stored_and_read_in_order_with_each_its_own_error(make: MakesStores, shards: int) -> None:
    """preserve_many and restore_many answer in order; one that fails does not disturb the others."""
    store = make(shards=shards)
    items: list[dict[str, Any]] = [{"session_id": f"s{n}", "data": {"n": n}} for n in range(6)]
    items[2] = {"session_id": "", "data": {}}
    items[4] = {"session_id": "s4", "data": {"n": 4}, "if_version": 7}
    made = await store.preserve_many(items)
    assert [type(one) for one in made] == [Preserved, Preserved, InvalidId, Preserved, VersionConflict, Preserved]
    ids = [one.context_id if isinstance(one, Preserved) else str(uuid4()) for one in made]
    found = await store.restore_many(ids)
    assert [one.data if isinstance(one, Context) else type(one) for one in found] == [
        {"n": 0},
        {"n": 1},
        ContextNotFound,
        {"n": 3},
        ContextNotFound,
        {"n": 5},
    ]
    assert await store.restore_many([]) == []
    assert await store.preserve_many([]) == []


@pytest.mark.parametrize("item", [5, {"data": {}}, {"session_id": "s", "data": {}, "colour": "red"}])
async def test_an_item_that_is_no_preserve_sends_nothing(store: AsyncContextStore, look: Look, item: Any) -> None:
    """preserve_many checks the shape of every item before it sends the first."""
    with pytest.raises(InvalidArgument, match=r"items\[1\]"):
        await store.preserve_many([{"session_id": "s", "data": {}}, item])
    assert look.dump() == {}
