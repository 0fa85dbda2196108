"""The first calls of a new tenant, all at once."""

import asyncio
import contextlib

from lukhas_redis.aio import AsyncContextStore
from lukhas_redis.calls import Call, Read
from lukhas_redis.ops.space import Space, discover
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer


async def test_concurrent_first_calls_are_no_reset(server: RunningServer, tenant: str) -> None:
    """Thirty-two calls that open a tenant together find one record and lose nothing."""
    async with AsyncContextStore.connect(server.url, tenant=tenant) as store:
        kept = await asyncio.gather(*(store.preserve(f"s{n}", {"n": n}) for n in range(32)))
        assert store.resets == 0
        assert [(await store.restore(one.context_id)).data["n"] for one in kept] == list(range(32))


def test_an_answer_older_than_what_was_learned_says_nothing() -> None:
    """A look that was sent before the tenant was opened, and answered after, is no reset."""
    space = Space(Settings.load(), lambda: "0" * 32, "t")
    look = discover(space)
    wanted = next(look)
    assert isinstance(wanted, tuple)
    assert all(isinstance(one, Read) for one in wanted)
    assert Call not in map(type, wanted)
    space.markers["t"], space.shards = "f00d", 1
    with contextlib.suppress(StopIteration):
        look.send([[None, None], None])
    assert (space.resets, space.shards, space.markers) == (0, 1, {"t": "f00d"})


def test_another_marker_than_believed_is_a_reset() -> None:
    """An answer that shows another incarnation than the one believed when it was asked counts one reset."""
    space = Space(Settings.load(), lambda: "0" * 32, "t")
    space.markers["t"], space.shards = "f00d", 1
    look = discover(space)
    next(look)
    with contextlib.suppress(StopIteration):
        look.send([[b"1", b"beef"], None])
    assert (space.resets, space.markers) == (1, {"t": "beef"})
