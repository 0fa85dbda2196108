"""Calls begun in one turn of an event loop: they leave together, in their order, and share a round trip."""

from __future__ import annotations

import asyncio
from typing import Any

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer
from lukhas_redis.transport.aio_link import Link


async def test_an_append_and_the_handoff_after_it_cost_one_round_trip(server: RunningServer, tenant: str) -> None:
    """Every time in this order, and both are under way before an answer to either is here."""
    settings = Settings(max_context_throughput_mbps=0)
    async with AsyncContextStore.connect(server.url, tenant=tenant, settings=settings) as store:
        kept = await store.preserve("s", {"turns": []})
        # The first of their kind also load the script.
        await store.append(kept.context_id, ("turns",), [-1])
        await store.handoff(kept.context_id, "b", "a")
        seen = _watch(store)
        for turn in range(50):
            seen.clear()
            appended, handed = await asyncio.gather(
                store.append(kept.context_id, ("turns",), [turn]),
                store.handoff(kept.context_id, "ab"[turn % 2], "ba"[turn % 2]),
            )
            assert handed.version == appended.version + 1
            assert seen in (["submit", "submit", "answer", "answer"], ["submit", "submit", "answer"]), (turn, seen)
        found = await store.restore(kept.context_id)
    assert (found.data["turns"], found.metadata.hop_count) == ([-1, *range(50)], 51)


def _watch(store: AsyncContextStore) -> list[str]:
    """What happens on the connection from now on."""
    link: Any = store._link
    ((links),) = link._state().links.values()
    seen: list[str] = []

    class Watched(Link):
        def submit(self, pieces: list[bytes], count: int, now: float, deadline: float) -> asyncio.Future[Any]:
            seen.append("submit")
            return super().submit(pieces, count, now, deadline)

        def data_received(self, data: bytes) -> None:
            seen.append("answer")
            super().data_received(data)

    links.ready().__class__ = Watched
    return seen
