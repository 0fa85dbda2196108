"""What a review found: places where two things that are right by themselves were wrong together.

What belongs here: regressions that need a whole store. What does not: what a script alone does (`tests/lua`).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from uuid import uuid4

import pytest

from lukhas_redis import ops
from lukhas_redis.calls import Call, Op
from lukhas_redis.errors import (
    ContextNotFound,
    DurabilityUnknown,
    InvalidArgument,
    OutcomeUnknown,
    StoreFull,
    TenantPaused,
    Unavailable,
)
from lukhas_redis.functions import library
from lukhas_redis.keys import KeySpace
from lukhas_redis.models import Preserved
from lukhas_redis.ops.space import discover
from lukhas_redis.settings import Settings
from lukhas_redis.store import ContextStore
from lukhas_redis.testing import RunningServer, TcpProxy, wait_until
from tests.fix_servers import StartsServers
from tests.store.conftest import Look, MakesStores


async def test_a_listing_goes_on_where_it_was_when_its_last_context_moves(make: MakesStores) -> None:
    """Extending the context a page ended with leaves every other context listed exactly once."""
    store = make()
    made = [await store.preserve("s", {}, ttl=100 + n) for n in range(6)]
    cursor, seen = ops.Cursor(), []
    while not cursor.done:
        found, cursor = await _page(store, cursor)
        seen += [one.context_id for one in found]
        await store.extend(made[1].context_id, 3000)
    assert [one for one in seen if one != made[1].context_id] == [made[n].context_id for n in (0, 2, 3, 4, 5)]


async def _page(store: Any, cursor: ops.Cursor) -> Any:
    return await store.run(ops.list_page(_space(store), cursor, page=2))


def _space(store: Any) -> Any:
    return store._space


async def test_a_mode_set_before_the_tenant_exists_holds_for_every_shard_it_gets(make: MakesStores) -> None:
    """Whoever sets a mode first need not know how many shards the first worker will ask for."""
    operator, worker = make(), make(shards=4)
    await operator.set_mode("paused")
    await operator.set_flag("colour", "red")
    for n in range(8):
        with pytest.raises(TenantPaused):
            await worker.preserve(f"session {n}", {})
    assert all(one.flags == {"mode": "paused", "flag.colour": "red"} for one in (await worker.stats()).shards)
    await operator.set_mode("live")
    assert (await worker.preserve("session 1", {})).version == 1


async def test_a_worker_that_assumed_another_number_of_shards_writes_where_the_others_look(make: MakesStores) -> None:
    """Between its look at the tenant and its first write another worker created the tenant with four shards."""
    late, first = make(), make(shards=4)
    await late.run(discover(_space(late)))
    await first.preserve("somebody", {})
    made = await late.run(_after_its_first_look(ops.preserve(_space(late), "s", {"n": 1})))
    assert (await first.restore(made.context_id)).data == {"n": 1}


def _after_its_first_look(op: Op[Preserved]) -> Op[Preserved]:
    """The operation, told at its first question what was true before the tenant was created."""
    assert isinstance(next(op), tuple)
    request = op.send([[None, None], None])
    while True:
        try:
            reply = yield request
        except Exception as error:  # noqa: BLE001 - the operation judges it
            request = op.throw(error)
            continue
        try:
            request = op.send(reply)
        except StopIteration as done:
            result: Preserved = done.value
            return result


@pytest.mark.parametrize("step", ["open", "sweep"])
def test_a_doubt_about_a_step_before_the_write_is_none_about_the_write(
    server: RunningServer, proxy: TcpProxy, tenant: str, step: str
) -> None:
    """Replies to opening or sweeping that never come end a preserve as not applied, never with a request id of ours."""
    settings = Settings(min_ttl_seconds=1, max_memory_store_entries=2, call_timeout_seconds=1.0)
    url = proxy.url_for(server)
    with ContextStore.connect(url, tenant=f"{tenant}-other", settings=settings) as other:
        other.preserve("loads the script", {})
    with ContextStore.connect(url, tenant=tenant, settings=settings) as store:
        if step == "sweep":
            _fill_with_expired(server, tenant)
        op = ops.preserve(_space(store), "s", {}, context_id=(cid := str(uuid4())))
        with pytest.raises(Unavailable) as caught:
            store.run(_without_replies_to(step, op, proxy))
        assert "not applied" in str(caught.value)
        proxy.drop_replies(0)
        with pytest.raises(ContextNotFound):
            store.metadata(cid)


def _fill_with_expired(server: RunningServer, tenant: str) -> None:
    settings = Settings(min_ttl_seconds=1)
    with ContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        store.preserve_many([{"session_id": "s", "data": {}, "ttl": 1} for _ in range(12)])
        wait_until(lambda: store.stats().expired == 12, what="twelve contexts to expire")


def _without_replies_to(step: str, op: Op[Any], proxy: TcpProxy) -> Generator[Any, Any, Any]:
    request = next(op)
    while True:
        if isinstance(request, Call) and request.script.name == step:
            proxy.drop_replies(1000, command="EVALSHA")
        try:
            reply = yield request
        except Exception as error:  # noqa: BLE001 - the operation judges it
            request = op.throw(error)
        else:
            request = op.send(reply)


def test_an_operators_note_is_kept_as_text(fresh_server: StartsServers, tenant: str) -> None:
    """A handoff by redis-cli may carry any text; the hops show it, and what stores wrote as they wrote it."""
    server = fresh_server()
    server.admin.function_load(library())
    with ContextStore.connect(server.url, tenant=tenant, settings=Settings()) as store:
        one = store.preserve("s", {})
        key = KeySpace("lukhas", tenant).root.ctx(one.context_id)
        for note in ("moved by hand", "[" * 1024):
            server.admin.fcall("lukhas_handoff", 1, key, "source", "a", "destination", "a", "note", note)
        store.handoff(one.context_id, "a", "b", metadata={"why": "turn over"})
        assert [hop.metadata for hop in store.hops(one.context_id)] == [
            "moved by hand",
            "[" * 1024,
            {"why": "turn over"},
        ]


@pytest.mark.parametrize("wrong", [{"value": "\ud800"}, {"by": "\ud800"}, {"reason": "\ud800"}, {"name": "\ud800"}])
async def test_text_that_is_no_utf8_is_refused_before_a_flag_is_set(
    make: MakesStores, look: Look, wrong: dict[str, str]
) -> None:
    """A lone surrogate in any part is a typed refusal, and nothing was sent."""
    with pytest.raises(InvalidArgument):
        await make().set_flag(**{"name": "colour", "value": "red", **wrong})
    assert not look.dump()


async def test_a_quota_of_fewer_bytes_than_shards_is_still_a_quota(make: MakesStores) -> None:
    """Seven bytes over eight shards is no room, not no limit."""
    with pytest.raises(StoreFull):
        await make(shards=8, max_tenant_bytes=7).preserve("s", {"n": 1})


def _durable_alone(fresh_server: StartsServers) -> tuple[RunningServer, Settings]:
    server = fresh_server(config={"appendonly": "yes", "appendfsync": "always"})
    settings = Settings(durability="replicated", wait_timeout_ms=20, min_ttl_seconds=1, max_memory_store_entries=2)
    return server, settings


def test_a_dry_run_is_not_held_up_by_missing_replicas(fresh_server: StartsServers, tenant: str) -> None:
    """Where nothing is written there is nothing to confirm."""
    server, settings = _durable_alone(fresh_server)
    with ContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        assert store.preserve("s", {}, dry_run=True).dry_run
        with pytest.raises(DurabilityUnknown):
            store.preserve("s", {})


def test_only_the_write_itself_is_called_written(fresh_server: StartsServers, tenant: str) -> None:
    """An answer that asks for sweeping first is not taken for a write that no replica confirmed."""
    server, settings = _durable_alone(fresh_server)
    _fill_with_expired(server, tenant)
    cid = str(uuid4())
    with ContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        with pytest.raises(OutcomeUnknown) as caught:
            store.preserve("s", {}, context_id=cid)
        assert isinstance(caught.value, DurabilityUnknown)
        assert store.metadata(cid).version == 1
