"""Arguments that cannot be right: a typed error, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import ContextTooLarge, InvalidArgument, InvalidId, LukhasRedisError, SerializationError
from lukhas_redis.keys import KeySpace
from tests.store.conftest import Look, MakesStores
from tests.store.faces import connect

Ask = Callable[[AsyncContextStore], Coroutine[Any, Any, Any]]
SOME_ID = "1b4e28ba-2fa1-4d2b-883f-0016d3cca427"

BAD_TTLS = [0, -1, 59, 86_401, float("nan"), 1.5, True, "60", 10**15, 2**63, timedelta(seconds=90.5), timedelta.max]
BAD_IDS = [
    "",
    "x",
    "{a}",
    "a:b",
    "*",
    "a\nb",
    "\0",
    "\ud800",
    "e\u0301",
    SOME_ID[:-1],
    SOME_ID + "0",
    "7033a0e4-e701-11f1-8092-02fc00000001",
    7,
]
BAD_SESSIONS = ["", "x" * 257, "\u2603" * 86, "a\nb", "a\r", "\0", "\ud800", "e\u0301", None, b"s", 7]
BAD_NAMES = ["", "x" * 65, "{a}", "a:b", "a*", "a b", "a\n", "\0", "\ud800", "n\u00e9", None, 7]
ODD_SESSIONS = ["{a}", "a:b", "*?[", "%2A", "x" * 256, "\u2603 / \u00e9", " ", "'\"\\", "{lukhas}:index", "\u202e"]


def _nested(depth: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(depth - 1):
        data = {"in": data}
    return data


def _circular() -> dict[str, Any]:
    data: dict[str, Any] = {"a": []}
    data["a"].append(data)
    return data


async def _refused(store: AsyncContextStore, look: Look, ask: Ask, error: type[LukhasRedisError]) -> LukhasRedisError:
    with pytest.raises(error) as caught:
        await ask(store)
    assert not caught.value.retryable
    assert look.dump() == {}
    return caught.value


@pytest.mark.parametrize("ttl", BAD_TTLS, ids=repr)
async def test_a_ttl_out_of_bounds_is_refused(store: AsyncContextStore, look: Look, ttl: Any) -> None:
    """A lifetime is whole seconds within the bounds, for preserve, extend and handoff."""
    asks: list[Ask] = [
        lambda s: s.preserve("s", {}, ttl=ttl),
        lambda s: s.extend(SOME_ID, ttl),
        lambda s: s.handoff(SOME_ID, "a", "b", ttl=ttl),
    ]
    for ask in asks:
        await _refused(store, look, ask, InvalidArgument)


@pytest.mark.parametrize("ttl", [60, 86_400, timedelta(hours=24)], ids=repr)
async def test_the_bounds_themselves_are_taken(store: AsyncContextStore, ttl: Any) -> None:
    """The shortest and the longest lifetime are lifetimes."""
    one = await store.preserve("s", {}, ttl=ttl)
    known = await store.metadata(one.context_id)
    assert known.ttl_ms == (ttl.total_seconds() if isinstance(ttl, timedelta) else ttl) * 1000


@pytest.mark.parametrize("context_id", BAD_IDS, ids=ascii)
async def test_an_id_that_is_no_uuid_is_refused(store: AsyncContextStore, look: Look, context_id: Any) -> None:
    """A context id is a UUID of version 4, for every method that takes one."""
    asks: list[Ask] = [
        lambda s: s.preserve("s", {}, context_id=context_id),
        lambda s: s.restore(context_id),
        lambda s: s.restore_many([SOME_ID, context_id]),
        lambda s: s.handoff(context_id, "a", "b"),
        lambda s: s.extend(context_id, 60),
        lambda s: s.pin(context_id),
        lambda s: s.drop(context_id),
        lambda s: s.metadata(context_id),
        lambda s: s.lifecycle(context_id),
        lambda s: s.hops(context_id),
    ]
    for ask in asks:
        await _refused(store, look, ask, InvalidId)


@pytest.mark.parametrize("session_id", BAD_SESSIONS, ids=ascii)
async def test_a_malformed_session_is_refused(store: AsyncContextStore, look: Look, session_id: Any) -> None:
    """A session id is 1 to 256 bytes of normalized text without control characters."""
    await _refused(store, look, lambda s: s.preserve(session_id, {}), InvalidId)


@pytest.mark.core
async def test_any_other_session_is_kept_faithfully(make: MakesStores, look: Look) -> None:
    """Braces, colons, globs, percent signs and the like make no trouble: each session lists its own context only."""
    store = make(shards=4)
    made = {sid: (await store.preserve(sid, {"sid": sid})).context_id for sid in ODD_SESSIONS}
    for sid, context_id in made.items():
        listed = [one async for one in store.list(session_id=sid)]
        assert [(one.context_id, one.session_id) for one in listed] == [(context_id, sid)]
        assert (await store.restore(context_id)).data == {"sid": sid}
    assert all(key.startswith(f"{look.prefix}".encode()) for key in look.dump())


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
async def test_a_malformed_name_is_refused(store: AsyncContextStore, look: Look, name: Any) -> None:
    """Types, providers and request ids are names."""
    asks: list[Ask] = [
        lambda s: s.preserve("s", {}, context_type=name),
        lambda s: s.handoff(SOME_ID, name, "b"),
        lambda s: s.handoff(SOME_ID, "a", name),
    ]
    if name is not None:
        asks.append(lambda s: s.preserve("s", {}, request_id=name))
    for ask in asks:
        await _refused(store, look, ask, InvalidId)


@pytest.mark.parametrize("tenant", [*BAD_NAMES[:-2], "a/b", 7], ids=ascii)
def test_a_malformed_tenant_is_refused(face: str, tenant: Any) -> None:
    """A tenant is a name, and a store for anything else is never made."""
    with pytest.raises(InvalidId):
        connect(face, "redis://127.0.0.1:1", tenant)


@pytest.mark.parametrize(
    "data,path",
    [
        (_circular(), "/a/0"),
        (_nested(51), "/in/in"),
        ({"a": [{"b": object()}]}, "/a/0/b"),
        ({"a": {"b": "\ud800"}}, "/a/b"),
        ([1], ""),
        ("text", ""),
        (None, ""),
    ],
    ids=["circular", "depth-51", "unknown-type", "surrogate", "list", "text", "none"],
)
async def test_data_that_cannot_be_stored_is_refused(
    store: AsyncContextStore, look: Look, data: Any, path: str
) -> None:
    """What has no faithful form is refused with the path inside the data."""
    error = await _refused(store, look, lambda s: s.preserve("s", data), LukhasRedisError)
    assert isinstance(error, SerializationError | InvalidArgument)
    assert path in str(error)
    if path:
        assert error.fields["path"].startswith(path)


async def test_depth_fifty_and_the_last_byte_are_taken(store: AsyncContextStore, make: MakesStores, look: Look) -> None:
    """The limits themselves are within the limits; one level or one byte more is not."""
    one = await store.preserve("s", _nested(50))
    assert (await store.restore(one.context_id)).data == _nested(50)
    await store.drop(one.context_id)
    size = (await store.preserve("s", {"x": b"a" * 1000}, dry_run=True)).raw_bytes
    exact = make(max_context_size_bytes=size)
    await exact.preserve("s", {"x": b"a" * 1000})
    before = look.dump()
    with pytest.raises(ContextTooLarge):
        await exact.preserve("s", {"x": b"a" * 1001})
    assert look.dump() == before


async def test_ten_megabytes_and_one_byte_are_too_much(store: AsyncContextStore, look: Look) -> None:
    """10,485,760 serialized bytes are the limit."""
    head = (await store.preserve("s", {"x": b"a" * 100_000}, dry_run=True)).raw_bytes - 100_000
    error = await _refused(store, look, lambda s: s.preserve("s", {"x": b"a" * (10_485_761 - head)}), ContextTooLarge)
    assert "10,485,760" in str(error) or "10485760" in str(error)


BAD_OPTIONS: dict[str, Ask] = {
    "if_version -1": lambda s: s.preserve("s", {}, if_version=-1),
    "if_version True": lambda s: s.preserve("s", {}, if_version=True),
    "if_version text": lambda s: s.handoff(SOME_ID, "a", "b", if_version="1"),  # type: ignore[arg-type]
    "if_version drop": lambda s: s.drop(SOME_ID, if_version=1.0),  # type: ignore[arg-type]
    "durability": lambda s: s.preserve("s", {}, durability="disk"),
    "dry_run": lambda s: s.preserve("s", {}, dry_run="no"),  # type: ignore[arg-type]
    "compression": lambda s: s.preserve("s", {}, compression="zip"),
    "compression 3": lambda s: s.preserve("s", {}, compression=3),
    "pin": lambda s: s.pin(SOME_ID, 1),  # type: ignore[arg-type]
    "note": lambda s: s.handoff(SOME_ID, "a", "b", metadata={"x": {1}}),
    "note circular": lambda s: s.handoff(SOME_ID, "a", "b", metadata=_circular()),
    "note too long": lambda s: s.handoff(SOME_ID, "a", "b", metadata={"x": "y" * 1024}),
    "note nan": lambda s: s.handoff(SOME_ID, "a", "b", metadata={"x": float("nan")}),
    "mode": lambda s: s.set_mode("of"),
    "mode flag": lambda s: s.set_flag("mode", "of"),
    "flag name": lambda s: s.set_flag("a b", "1"),
    "flag value": lambda s: s.set_flag("x", "y" * 257),
    "limit": lambda s: s.set_flag("max_entries", "-1"),
    "limit text": lambda s: s.set_flag("max_bytes", "many"),
    "policy": lambda s: s.set_flag("policy", "lru"),
    "reason": lambda s: s.set_mode("paused", reason="y" * 257),
    "sweep 0": lambda s: s.sweep(limit=0),
    "sweep True": lambda s: s.sweep(limit=True),
    "events 0": lambda s: s.events(count=0),
    "events 1001": lambda s: s.events(count=1001),
    "events after": lambda s: s.events(after="yesterday"),
    "events shard": lambda s: s.events(shard=1),
    "events shard -1": lambda s: s.events(shard=-1),
    "audit 0": lambda s: s.audit(count=0),
}


@pytest.mark.parametrize("ask", BAD_OPTIONS.values(), ids=BAD_OPTIONS.keys())
async def test_a_malformed_option_is_refused(store: AsyncContextStore, look: Look, ask: Ask) -> None:
    """Every option is checked, and a refusal changes nothing."""
    await _refused(store, look, ask, InvalidArgument)


@pytest.mark.parametrize("page", [0, 1001, True, "1"], ids=repr)
async def test_a_malformed_page_is_refused(store: AsyncContextStore, page: Any) -> None:
    """A page of a listing has 1 to 1000 contexts."""
    with pytest.raises(InvalidArgument):
        _ = [one async for one in store.list(page=page)]


async def test_two_tenants_do_not_meet(store: AsyncContextStore, face: str, tenant: str, look: Look) -> None:
    """A context of one tenant does not exist for another, though the id is the same."""
    other = connect(face, store._target, f"{tenant}-2")
    context_id = str(uuid4())
    await store.preserve("s", {"whose": 1}, context_id=context_id)
    await other.preserve("s", {"whose": 2}, context_id=context_id)
    await other.drop(context_id)
    await other.close()
    assert (await store.restore(context_id)).data == {"whose": 1}
    assert KeySpace("lukhas", tenant).root.ctx(context_id).encode() in look.dump()
