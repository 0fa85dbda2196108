"""Large contexts: staged on the way in, fetched beside their metadata on the way out, never half of anything."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from lukhas_redis import AsyncContextStore
from lukhas_redis.codec import CodecLimits, encode
from lukhas_redis.errors import VersionConflict
from tests.fix_hypothesis import NIGHTLY
from tests.store.conftest import Look, MakesStores

SIZES = {"100 kB": 100_000, "1 MB": 1_000_000, "9.9 MB": 9_900_000}


def _data(size: int) -> dict[str, Any]:
    return {"random": os.urandom(size // 2), "text": "lorem ipsum " * (size // 24)}


@pytest.mark.core
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES.keys())
async def test_a_large_context_comes_back_whole(store: AsyncContextStore, look: Look, size: int) -> None:
    """Up to the limit a context comes back equal, and nothing of its way in is left behind."""
    data = _data(size)
    one = await store.preserve("s", data)
    assert (await store.restore(one.context_id)).data == data
    again = await store.preserve("s", data, context_id=one.context_id, compression="none")
    assert again.stored_bytes > again.raw_bytes > size * 0.99
    found = await store.restore(one.context_id)
    assert (found.data, found.version) == (data, 2)
    assert not [key for key in look.dump() if b":stage:" in key]
    assert (await store.stats()).bytes == again.stored_bytes


async def test_a_refused_large_write_leaves_no_stage(store: AsyncContextStore, look: Look) -> None:
    """When the version is stale the staged payload is never seen by anybody and ends by itself."""
    one = await store.preserve("s", {"n": 1})
    before = look.dump()
    with pytest.raises(VersionConflict):
        await store.preserve("s", _data(100_000), context_id=one.context_id, if_version=5, compression="none")
    left = {key: value for key, value in look.dump().items() if key not in before}
    assert all(b":stage:" in key and value.deadline_ms for key, value in left.items())
    assert {key: value for key, value in look.dump().items() if key in before} == before


@pytest.mark.parametrize("bodies", [(b"a", b"b"), (b"a", b"")], ids=["large and large", "large and small"])
@pytest.mark.slow
async def test_a_reader_never_sees_half_of_two_writers(make: MakesStores, bodies: tuple[bytes, bytes]) -> None:
    """While two writers replace a 200 kB context over and over, every read is one write: data and metadata agree."""
    writers, reader = [make(), make()], make()
    rounds = 300 if NIGHTLY else 40
    one = await writers[0].preserve("s", _by("0", 0, bodies[0]), compression="none")
    writing = True

    async def write(who: int) -> None:
        for number in range(1, rounds):
            data = _by(str(who), number, bodies[who])
            await writers[who].preserve("s", data, compression="none", context_id=one.context_id)

    async def read() -> int:
        seen = 0
        while writing:
            found = await reader.restore(one.context_id, touch=False)
            who, number, body = found.data["who"], found.data["number"], found.data["body"]
            assert body == bodies[int(who)] * 200_000, "a mixed body"
            assert found.metadata.raw_bytes == found.data["raw"] or not number
            assert found.version >= seen
            seen = found.version
        return seen

    reading = [asyncio.create_task(read()) for _ in range(2)]
    await asyncio.gather(write(0), write(1))
    writing = False
    assert max(await asyncio.gather(*reading)) >= 1
    last = await reader.restore(one.context_id)
    assert last.version == 1 + 2 * (rounds - 1)


def _by(who: str, number: int, body: bytes) -> dict[str, Any]:
    # The serialized size differs from write to write and stands in the data, so that metadata can be matched to it.
    data = {"who": who, "number": number, "body": body * 200_000, "raw": 0, "pad": "p" * (number % 30)}
    limits = CodecLimits(10_485_760, 50)
    cid = "1b4e28ba-2fa1-4d2b-883f-0016d3cca427"
    for _ in range(3):
        data["raw"] = encode(data, cid, compression="none", limits=limits).raw_bytes
    return data


@pytest.mark.core
async def test_small_and_large_take_turns_under_one_id(store: AsyncContextStore) -> None:
    """Growing past the inline size and shrinking below it keeps one context with exact accounts."""
    one = await store.preserve("s", {"n": 0})
    for number, size in enumerate((100_000, 10, 40_000, 32_700, 10), start=2):
        data = {"x": b"a" * size}
        again = await store.preserve("s", data, context_id=one.context_id, compression="none")
        found = await store.restore(one.context_id)
        assert (found.data, found.version) == (data, number)
        assert (await store.stats()).bytes == again.stored_bytes
    assert (await store.check()).sound
