"""Request ids: a repeat returns the first answer and does nothing."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import RequestReused
from lukhas_redis.testing import wait_until
from tests.store.conftest import Look, MakesStores

Repeat = Callable[[AsyncContextStore, str, str], Coroutine[Any, Any, Any]]

WRITES: dict[str, Repeat] = {
    "preserve": lambda s, cid, rid: s.preserve("s", {"n": 2}, context_id=cid, request_id=rid),
    "large": lambda s, cid, rid: s.preserve(
        "s", {"n": b"x" * 90_000}, context_id=cid, compression="none", request_id=rid
    ),
    "preserve under a new id": lambda s, _, rid: s.preserve("s", {"n": 2}, request_id=rid),
    "handoff": lambda s, cid, rid: s.handoff(cid, "a", "b", metadata={"why": 1}, ttl=90, request_id=rid),
    "extend": lambda s, cid, rid: s.extend(cid, 7200, request_id=rid),
    "pin": lambda s, cid, rid: s.pin(cid, request_id=rid),
    "drop": lambda s, cid, rid: s.drop(cid, request_id=rid),
    "append": lambda s, cid, rid: s.append(cid, ("log",), [1], request_id=rid),
    "append large": lambda s, cid, rid: s.append(cid, ("log",), [b"x" * 40_000], ttl=90, request_id=rid),
    "patch": lambda s, cid, rid: s.patch(cid, {"n": 2, "log": None}, request_id=rid),
    "lease": lambda s, cid, rid: s.lease(cid, "w", 60, request_id=rid),
}
OTHERS: dict[str, Repeat] = {
    "preserve": lambda s, cid, rid: s.preserve("s", {"n": 3}, context_id=cid, request_id=rid),
    "large": lambda s, cid, rid: s.preserve(
        "s", {"n": b"y" * 90_000}, context_id=cid, compression="none", request_id=rid
    ),
    "preserve under a new id": lambda s, _, rid: s.preserve("s", {"n": 3}, request_id=rid),
    "handoff": lambda s, cid, rid: s.handoff(cid, "a", "c", metadata={"why": 1}, ttl=90, request_id=rid),
    "extend": lambda s, cid, rid: s.extend(cid, 7201, request_id=rid),
    "pin": lambda s, cid, rid: s.pin(cid, False, request_id=rid),
    "drop": lambda s, cid, rid: s.drop(cid, if_version=9, request_id=rid),
    "append": lambda s, cid, rid: s.append(cid, ("log",), [2], request_id=rid),
    "append large": lambda s, cid, rid: s.append(cid, ("log",), [b"y" * 40_000], ttl=90, request_id=rid),
    "patch": lambda s, cid, rid: s.patch(cid, {"n": 3, "log": None}, request_id=rid),
    "lease": lambda s, cid, rid: s.lease(cid, "v", 60, request_id=rid),
}


def _said(result: Any) -> dict[str, Any]:
    """The answer without what only this process measured."""
    fields = {name: getattr(result, name) for name in result.__dataclass_fields__}
    return {name: value for name, value in fields.items() if not name.endswith("_ms") or name == "expires_ms"}


@pytest.mark.core
@pytest.mark.parametrize("name", WRITES)
async def test_a_repeat_returns_the_first_answer_and_does_nothing(
    store: AsyncContextStore, look: Look, name: str
) -> None:
    """The same request id with the same arguments: the same answer, and not a single key, deadline or event moves."""
    one = await store.preserve("s", {"n": 1, "log": []})
    first = await WRITES[name](store, one.context_id, "req-1")
    before = look.dump()
    again = await WRITES[name](store, one.context_id, "req-1")
    assert _said(again) == _said(first)
    assert look.dump() == before


@pytest.mark.parametrize("name", WRITES)
async def test_the_same_id_with_other_arguments_is_refused(store: AsyncContextStore, look: Look, name: str) -> None:
    """A request id stands for one set of arguments and one method."""
    one = await store.preserve("s", {"n": 1, "log": []})
    await WRITES[name](store, one.context_id, "req-1")
    before = look.dump()
    for ask in (OTHERS[name], WRITES["pin" if name == "drop" else "drop"]):
        with pytest.raises(RequestReused):
            await ask(store, one.context_id, "req-1")
    assert look.dump() == before


async def test_a_repeat_is_answered_whatever_happened_since(store: AsyncContextStore, look: Look) -> None:
    """The first answer stands though the version moved on, the tenant is paused or full, or the context is gone."""
    first = await store.preserve("s", {"n": 1}, if_version=0, request_id="first")
    await store.preserve("s", {"n": 2}, context_id=first.context_id)
    await store.set_flag("max_entries", "1")
    await store.set_mode("paused")
    before = look.dump()
    again = await store.preserve("s", {"n": 1}, if_version=0, request_id="first")
    assert _said(again) == _said(first)
    await store.drop(first.context_id)
    before = look.dump()
    assert _said(await store.preserve("s", {"n": 1}, if_version=0, request_id="first")) == _said(first)
    assert look.dump() == before


async def test_a_minted_request_id_can_be_repeated_too(store: AsyncContextStore, look: Look) -> None:
    """Every result names the request id it was made under, and repeating with it does nothing."""
    first = await store.preserve("s", {"n": 1})
    before = look.dump()
    again = await store.preserve("s", {"n": 1}, request_id=first.request_id)
    assert _said(again) == _said(first)
    assert look.dump() == before


async def test_after_the_retention_an_id_is_new_again(make: MakesStores, look: Look) -> None:
    """The answer is remembered for the retention and no longer."""
    store = make(request_retention_seconds=1, call_timeout_seconds=1)
    one = await store.preserve("s", {"n": 1}, request_id="again")
    wait_until(lambda: not look.command("EXISTS", look.keys.request("again")), what="the record to expire")
    two = await store.preserve("s", {"n": 1}, context_id=one.context_id, request_id="again")
    assert (one.version, two.version) == (1, 2)


async def test_a_dry_run_neither_remembers_nor_uses_up_a_request_id(store: AsyncContextStore, look: Look) -> None:
    """A dry run under a request id leaves the id free, and one after the live call is still marked as a dry run."""
    dry = await store.preserve("s", {"n": 1}, request_id="r", dry_run=True)
    assert look.dump() == {}
    live = await store.preserve("s", {"n": 1}, request_id="r")
    after = await store.preserve("s", {"n": 1}, request_id="r", dry_run=True)
    assert (dry.dry_run, live.dry_run, after.dry_run) == (True, False, True)
    assert after.context_id == live.context_id
