"""Stored bytes that somebody changed: refused on restore, kept for inspection, told to everybody.

What belongs here: what the store does with them. What does not: what the codec makes of them (`unit/codec`).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator

import lz4.block
import pytest

from lukhas_redis import ContextStore
from lukhas_redis.codec import encode
from lukhas_redis.errors import ContextCorrupted, UnsupportedFormat
from lukhas_redis.keys import ShardKeys
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, dump
from tests.unit.codec.storable import CONTEXT_ID

pytestmark = pytest.mark.faults

SMALL = {"text": "some text that is long enough " * 40}
Forge = Callable[[bytes], bytes]


@pytest.fixture(params=[100, 60_000], ids=["inline", "fetched"])
def planted(
    request: pytest.FixtureRequest, server: RunningServer, tenant: str
) -> Generator[tuple[ContextStore, RunningServer, ShardKeys, str, bytes]]:
    """A store, its server, and a context whose body can be replaced."""
    with ContextStore.connect(server.url, tenant=tenant, settings=Settings()) as store:
        one = store.preserve("s", {"x": b"abcdefgh" * (request.param // 8)}, compression="none")
        keys = store._space.keys.root
        body = server.admin.get(keys.body(one.context_id))
        assert isinstance(body, bytes)
        yield store, server, keys, one.context_id, body


def _flip(place: float) -> Forge:
    def forge(body: bytes) -> bytes:
        at = int(place * (len(body) - 1))
        return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

    return forge


FORGED: dict[str, Forge] = {
    "bad magic": lambda body: b"XX" + body[2:],
    "not ours at all": lambda _: b"hello world",
    "one byte": lambda _: b"\0",
    "cut short": lambda body: body[:-1],
    "only the header": lambda body: body[:48],
    "grown": lambda body: body + b"\0",
    "of another context": lambda _: encode(SMALL, CONTEXT_ID).stored,
    **{f"a bit flipped at {place}": _flip(place) for place in (0.0, 0.001, 0.1, 0.5, 0.9, 1.0)},
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_forged_bytes_are_never_data(
    planted: tuple[ContextStore, RunningServer, ShardKeys, str, bytes], forge: Forge
) -> None:
    """Every forgery is ContextCorrupted or UnsupportedFormat; the bytes stay, one event and one count tell of it."""
    store, server, keys, context_id, body = planted
    server.admin.set(keys.body(context_id), forge(body), keepttl=True)
    before = {k: v for k, v in dump(server.admin, prefix=keys.base).items() if context_id.encode() in k}
    for times in (1, 2):
        with pytest.raises((ContextCorrupted, UnsupportedFormat)) as caught:
            store.restore(context_id)
        assert context_id in str(caught.value)
        assert caught.value.fields["context_id"] == context_id
        told = [e.context_id for e in store.events() if e.event == "context.corrupt"]
        assert told == [context_id] * times
        assert store.stats().totals["corrupt"] == times
    after = {k: v for k, v in dump(server.admin, prefix=keys.base).items() if context_id.encode() in k}
    assert after == before
    assert isinstance(store.restore_many([context_id])[0], ContextCorrupted | UnsupportedFormat)
    server.admin.set(keys.body(context_id), body, keepttl=True)
    assert store.restore(context_id).data["x"].startswith(b"abcdefgh")


def test_a_newer_format_is_refused_as_such(
    planted: tuple[ContextStore, RunningServer, ShardKeys, str, bytes],
) -> None:
    """A body of a later release says so, and is left for the release that can read it."""
    store, server, keys, context_id, body = planted
    newer = body[:4] + bytes([body[4] + 1]) + body[5:]
    server.admin.set(keys.body(context_id), newer, keepttl=True)
    with pytest.raises(UnsupportedFormat, match="format"):
        store.restore(context_id)
    assert server.admin.get(keys.body(context_id)) == newer


def test_moved_bytes_are_refused(planted: tuple[ContextStore, RunningServer, ShardKeys, str, bytes]) -> None:
    """Body and metadata copied whole to the keys of another id fail: both checksums are bound to the id."""
    store, server, keys, context_id, _ = planted
    other = store.preserve("s", {"mine": True}).context_id
    server.admin.copy(keys.ctx(context_id), keys.ctx(other), replace=True)
    server.admin.copy(keys.body(context_id), keys.body(other), replace=True)
    with pytest.raises(ContextCorrupted):
        store.restore(other)
    assert store.restore(context_id).data["x"].startswith(b"abcdefgh")


def test_a_preserve_heals(planted: tuple[ContextStore, RunningServer, ShardKeys, str, bytes]) -> None:
    """Writing the context again replaces damaged bytes, with exact accounts."""
    store, server, keys, context_id, body = planted
    server.admin.set(keys.body(context_id), body[:-7], keepttl=True)
    assert [fault.fault for fault in store.check().faults] == ["uncounted"]
    store.preserve("s", {"new": 1}, context_id=context_id)
    assert store.restore(context_id).data == {"new": 1}
    assert store.check().sound


def test_a_bomb_is_refused_before_it_is_unpacked(
    planted: tuple[ContextStore, RunningServer, ShardKeys, str, bytes],
) -> None:
    """A small body that claims and unpacks to a gigabyte is refused by its header."""
    store, server, keys, context_id, _ = planted
    packed = encode(SMALL, context_id, compression="standard").stored
    raw = struct.pack(">Q", 1 << 30)
    bomb = packed[:8] + raw + packed[16:48] + lz4.block.compress(b"\0" * 50_000_000, store_size=False)
    server.admin.set(keys.body(context_id), bomb, keepttl=True)
    with pytest.raises((ContextCorrupted, UnsupportedFormat)):
        store.restore(context_id)
