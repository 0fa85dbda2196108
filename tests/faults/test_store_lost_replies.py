"""The store behind a network that loses replies: one effect, one event, the first answer.

What belongs here: what a caller of the store sees. What does not: single calls (`test_transport_lost_replies`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.errors import OutcomeUnknown, VersionConflict
from lukhas_redis.models import Preserved
from lukhas_redis.testing import RunningServer, TcpProxy, dump
from tests.store.faces import FACES, connect

pytestmark = pytest.mark.faults

NOISE = os.urandom(50_000)  # does not shrink, so the whole is staged
Ask = Callable[[AsyncContextStore, str], Coroutine[Any, Any, Any]]
DATA: dict[str, Any] = {"n": 1, "log": []}
WRITES: dict[str, Ask] = {
    "preserve": lambda s, cid: s.preserve("s", {"n": 2}, context_id=cid, if_version=1),
    "preserve large": lambda s, cid: s.preserve("s", {"n": b"x" * 200_000}, context_id=cid, if_version=1),
    "preserve staged": lambda s, cid: s.preserve(
        "s", {"n": b"x" * 200_000}, context_id=cid, if_version=1, compression="none"
    ),
    "preserve new": lambda s, _: s.preserve("s", {"n": 2}),
    "handoff": lambda s, cid: s.handoff(cid, "a", "b", if_version=1),
    "handoff with ttl": lambda s, cid: s.handoff(cid, "a", "b", if_version=1, ttl=60),
    "extend": lambda s, cid: s.extend(cid, 7200),
    "pin": lambda s, cid: s.pin(cid),
    "append": lambda s, cid: s.append(cid, ("log",), [1], if_version=1),
    "append with ttl": lambda s, cid: s.append(cid, ("log",), [1], if_version=1, ttl=60),
    "append large": lambda s, cid: s.append(cid, ("log",), [b"x" * 40_000], if_version=1),
    "append staged": lambda s, cid: s.append(cid, ("log",), [NOISE], if_version=1),
    "patch": lambda s, cid: s.patch(cid, {"n": 3}, if_version=1),
    "patch staged": lambda s, cid: s.patch(cid, {"n": NOISE}, if_version=1),
    "drop": lambda s, cid: s.drop(cid, if_version=1),
}


@pytest.fixture(params=FACES)
async def store(
    request: pytest.FixtureRequest, server: RunningServer, proxy: TcpProxy, tenant: str
) -> AsyncGenerator[AsyncContextStore]:
    """A store whose replies go through the proxy."""
    made = connect(request.param, proxy.url_for(server), tenant, call_timeout_seconds=20.0)
    yield made
    await made.close()


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("name", WRITES)
async def test_a_write_whose_replies_are_lost_happens_once(
    store: AsyncContextStore, server: RunningServer, proxy: TcpProxy, tenant: str, name: str, times: int
) -> None:
    """Executed and never answered, one time or three: the caller gets the answer of the one effect, with one event."""
    warm = await store.preserve("s", DATA)
    await WRITES[name](store, warm.context_id)
    one = await store.preserve("s", DATA)
    before = len(await store.events(count=1000))
    proxy.drop_replies(times, command="EVALSHA")
    result = await WRITES[name](store, one.context_id)
    assert proxy.dropped == times
    told = (await store.events(count=1000))[before:]
    assert len(told) == 1
    assert told[0].context_id == result.context_id
    assert result.version == (told[0].version or 1)
    assert (await store.check()).sound
    assert not [key for key in dump(server.client(), prefix=f"lukhas:{{{tenant}") if b":stage:" in key]


async def test_many_writes_whose_replies_are_lost_happen_once_each(store: AsyncContextStore, proxy: TcpProxy) -> None:
    """A pipeline of preserves that loses its connection half way is repeated without a second effect of any."""
    await store.preserve("s", {})
    proxy.drop_replies(3, command="EVALSHA")
    made = await store.preserve_many([{"session_id": "s", "data": {"n": n}} for n in range(20)])
    assert [one.version for one in made if isinstance(one, Preserved)] == [1] * 20
    stats = await store.stats()
    assert (stats.live, stats.totals["preserved"]) == (21, 21)
    assert len(await store.events(count=1000)) == 21


async def test_an_unknown_outcome_is_settled_with_its_request_id(
    server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """Without an answer until the deadline the error names the request id; repeating with it tells what was done."""
    store = connect("sync", proxy.url_for(server), tenant, call_timeout_seconds=1.0)
    one = await store.preserve("s", {"n": 1})
    await store.preserve("s", {"n": 2}, context_id=one.context_id)
    proxy.drop_replies(1000, command="EVALSHA")
    with pytest.raises(OutcomeUnknown) as caught:
        await store.preserve("s", {"n": 3}, context_id=one.context_id, if_version=2)
    proxy.heal()
    assert caught.value.retryable
    rid = caught.value.fields["request_id"]
    done = await store.preserve("s", {"n": 3}, context_id=one.context_id, if_version=2, request_id=rid)
    assert done.version == 3
    with pytest.raises(VersionConflict):
        await store.preserve("s", {"n": 3}, context_id=one.context_id, if_version=2)
    assert len(await store.events()) == 3
    await store.close()


@pytest.mark.parametrize("near", ["on", "off"])
async def test_appends_whose_replies_are_lost_add_each_item_once(
    server: RunningServer, proxy: TcpProxy, tenant: str, near: str
) -> None:
    """Every other append loses its reply, small and large: each item is there once, in order, held near or not."""
    store = connect("async", proxy.url_for(server), tenant, call_timeout_seconds=20.0, near_cache=near)
    one = await store.preserve("s", {"log": []})
    await store.append(one.context_id, "/log", [-1])
    for n in range(12):
        if n % 2:
            proxy.drop_replies(1, command="EVALSHA")
        await store.append(one.context_id, "/log", [n, bytes(40_000 if n % 5 == 0 else 1)])
    proxy.heal()
    found = await store.restore(one.context_id)
    assert [item for item in found.data["log"] if isinstance(item, int)] == list(range(-1, 12))
    assert found.version == 14
    assert (await store.check()).sound
    await store.close()


@pytest.mark.parametrize("name", ["lease", "renew", "release"])
async def test_a_lease_whose_reply_is_lost_is_one_lease(store: AsyncContextStore, proxy: TcpProxy, name: str) -> None:
    """The caller gets the token that was given out, renewed or ended, and it is the live one."""
    one = await store.preserve("s", {"log": []})
    await store.release(await store.lease(one.context_id, "warm", 60))
    asks: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {"lease": lambda: store.lease(one.context_id, "w", 60)}
    if name != "lease":
        held = await store.lease(one.context_id, "w", 60)
        await store.renew(held, 50)
        asks = {"renew": lambda: store.renew(held, 90), "release": lambda: store.release(held)}
    proxy.drop_replies(2, command="EVALSHA")
    result = await asks[name]()
    assert proxy.dropped == 2
    known = (await store.metadata(one.context_id)).lease
    assert (known.token if known else None) == (None if name == "release" else result.token)
    if known:
        await store.append(one.context_id, ("log",), [1], lease=result)


async def test_a_cancelled_write_happened_whole_or_not_at_all(
    server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """Cancelling while the answer is held back leaves a whole effect or none, and the store usable."""
    store = connect("async", proxy.url_for(server), tenant)
    one = await store.preserve("s", {"n": 1})
    for n in range(2, 12):
        proxy.pause()
        task = asyncio.ensure_future(store.preserve("s", {"n": n}, context_id=one.context_id, request_id=f"r{n}"))
        for _ in range(n):
            await asyncio.sleep(0)
        task.cancel()
        assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
        proxy.resume()
        done = await store.preserve("s", {"n": n}, context_id=one.context_id, request_id=f"r{n}")
        assert done.version == n
    assert (await store.restore(one.context_id)).data == {"n": 11}
    assert len(await store.events()) == 11
    await store.close()


async def test_a_lost_reply_to_a_read_is_asked_for_again(store: AsyncContextStore, proxy: TcpProxy) -> None:
    """restore, small and large, metadata and the rest return their answer though the first one was lost."""
    for size in (10, 200_000):
        one = await store.preserve("s", {"x": b"a" * size}, compression="none")
        for ask in (store.restore, store.metadata, store.lifecycle, store.hops):
            await ask(one.context_id)
            proxy.drop_replies(1)
            assert await ask(one.context_id) is not None
        proxy.drop_replies(1)
        assert (await store.restore(one.context_id)).data == {"x": b"a" * size}
