"""Appended segments that somebody damaged, took away, moved or repeated: never data, never a shorter context."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.codec import Append, pack_change, seal_segment
from lukhas_redis.errors import ContextCorrupted, UnsupportedFormat
from lukhas_redis.ops.folding import fold
from lukhas_redis.ops.reading import read
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, dump

pytestmark = pytest.mark.faults

ITEMS: list[Any] = ["zero", {"one": 1}, "two" * 300, [3]]
DATA: dict[str, Any] = {"log": [], "n": 1}


@dataclass(frozen=True)
class Planted:
    """A context with four segments, and what of other contexts and other days a forger may lay his hands on."""

    server: RunningServer
    store: ContextStore
    context_id: str
    segs: str
    body: str
    other_segs: str
    old_segments: list[bytes]
    old_body: bytes

    @property
    def segments(self) -> list[bytes]:
        """What is stored now."""
        found: Any = self.server.admin.lrange(self.segs, 0, -1)
        return list(found)

    def put(self, segments: list[bytes], key: str | None = None) -> None:
        """Replace the list, under the same deadline."""
        key = key or self.segs
        at: Any = self.server.admin.pexpiretime(self.body)
        self.server.admin.delete(key)
        if segments:
            self.server.admin.rpush(key, *segments)
            self.server.admin.pexpireat(key, at)


Forge = Callable[[Planted], Any]


@pytest.fixture(params=["inline", "apart"])
def planted(request: pytest.FixtureRequest, server: RunningServer, tenant: str) -> Generator[Planted]:
    """The context, read inside the script's answer or beside it."""
    inline = 32_768 if request.param == "inline" else 10
    writer = ContextStore.connect(server.url, tenant=tenant, settings=Settings(near_cache="off"))
    reader = ContextStore.connect(
        server.url, tenant=tenant, settings=Settings(near_cache="off", inline_body_bytes=inline)
    )
    with writer, reader:
        keys = writer._space.keys.root
        one, two = writer.preserve("s", {"log": ["old"], "n": 1}), writer.preserve("s", DATA)
        cid = one.context_id
        for item in ITEMS:
            writer.append(cid, ("log",), ["old", item])
            writer.append(two.context_id, ("log",), [item])
        old: Any = server.admin.lrange(keys.segs(cid), 0, -1)
        body: Any = server.admin.get(keys.body(cid))
        writer.preserve("s", DATA, context_id=cid)
        for item in ITEMS:
            writer.append(cid, ("log",), [item])
        segs, other = keys.segs(cid), keys.segs(two.context_id)
        yield Planted(server, reader, cid, segs, keys.body(cid), other, list(old), body)


def _flip(which: int, place: float) -> Forge:
    def forge(p: Planted) -> None:
        segments = p.segments
        at = int(place * (len(segments[which]) - 1))
        one = segments[which]
        segments[which] = one[:at] + bytes([one[at] ^ 1]) + one[at + 1 :]
        p.put(segments)

    return forge


def _changed(change: Callable[[list[bytes]], list[bytes]]) -> Forge:
    return lambda p: p.put(change(p.segments))


def _of_another_context(p: Planted) -> None:
    other: Any = p.server.admin.lrange(p.other_segs, 0, -1)
    p.put([*p.segments[:1], other[1], *p.segments[2:]])


def _lists_swapped(p: Planted) -> None:
    other: Any = p.server.admin.lrange(p.other_segs, 0, -1)
    mine = p.segments
    p.put(list(other))
    p.put(mine, p.other_segs)


def _sound_but_new(p: Planted) -> None:
    """A segment that is sealed for this context as it should be, and was never appended."""
    made = seal_segment(pack_change(Append(("log",), ["forged"])), p.context_id).stored
    p.put([*p.segments[:3], made])


FORGED: dict[str, Forge] = {
    **{f"a bit of {which} at {place}": _flip(which, place) for which in (0, 2, 3) for place in (0, 0.1, 0.4, 0.7, 1)},
    "the first is missing": _changed(lambda s: s[1:]),
    "the last is missing": _changed(lambda s: s[:-1]),
    "one in the middle is missing": _changed(lambda s: s[:1] + s[2:]),
    "two are swapped": _changed(lambda s: [s[1], s[0], *s[2:]]),
    "one twice for another": _changed(lambda s: [s[0], s[0], *s[2:]]),
    "one too many before": _changed(lambda s: [s[0], *s]),
    "one is cut short": _changed(lambda s: [*s[:3], s[3][:-1]]),
    "one is only a header": _changed(lambda s: [*s[:3], s[3][:48]]),
    "one is grown": _changed(lambda s: [s[0] + b"\0", *s[1:]]),
    "one is empty": _changed(lambda s: [b"", *s[1:]]),
    "one is text": _changed(lambda s: [b"hello", *s[1:]]),
    "of another context": _of_another_context,
    "of two contexts swapped": _lists_swapped,
    "sound, and never appended": _sound_but_new,
    "those of an older body": lambda p: p.put(p.old_segments),
    "an older body under them": lambda p: p.server.admin.set(p.body, p.old_body, keepttl=True),
    "a segment for a body": lambda p: p.server.admin.set(p.body, p.segments[0], keepttl=True),
    "a body for a segment": lambda p: p.put([p.old_body, *p.segments[1:]]),
    "all are gone": lambda p: p.server.admin.delete(p.segs),
}


def _parts(p: Planted) -> dict[bytes, Any]:
    found = dump(p.server.admin, prefix=p.store._space.keys.root.base)
    return {key: value for key, value in found.items() if p.context_id.encode() in key}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_damaged_segments_are_never_data(planted: Planted, forge: Forge) -> None:
    """Each damage is ContextCorrupted, with an event and a count for each read, and nothing is changed."""
    store, cid = planted.store, planted.context_id
    segments, body = planted.segments, planted.server.admin.get(planted.body)
    others: Any = planted.server.admin.lrange(planted.other_segs, 0, -1)
    forge(planted)
    before = _parts(planted)
    for times in (1, 2):
        with pytest.raises((ContextCorrupted, UnsupportedFormat), match=cid) as caught:
            store.restore(cid)
        assert caught.value.fields["context_id"] == cid
        assert [e.context_id for e in store.events(count=1000) if e.event == "context.corrupt"] == [cid] * times
        assert store.stats().totals["corrupt"] == times
    assert isinstance(store.restore_many([cid])[0], ContextCorrupted | UnsupportedFormat)
    assert _parts(planted) == before
    planted.put(segments or [b""])
    planted.put(list(others), planted.other_segs)
    assert isinstance(body, bytes)
    planted.server.admin.set(planted.body, body, keepttl=True)
    at: Any = planted.server.admin.pexpiretime(planted.body)
    planted.server.admin.pexpireat(planted.segs, at)
    assert store.restore(cid).data == {"log": ITEMS, "n": 1}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_damage_is_not_folded_away(planted: Planted, forge: Forge) -> None:
    """A writer that must fold, or rewrite, what is damaged refuses and leaves it as it is."""
    forge(planted)
    before = _parts(planted)
    settings = Settings(max_segments=2, near_cache="off", inline_body_bytes=1000)
    with ContextStore.connect(planted.server.url, tenant=planted.store.tenant, settings=settings) as writer:
        for items in ([5], [b"x" * 2000]):
            with pytest.raises((ContextCorrupted, UnsupportedFormat)):
                writer.append(planted.context_id, ("log",), items)
    assert _parts(planted) == before


@pytest.mark.parametrize("count", ["", "x", "1.5", "-1", "3", "5", "9" * 30])
@pytest.mark.parametrize("field", ["segs", "segs_bytes", "segs_raw", "chain", "root", "shape", "seq"])
def test_a_field_that_tells_something_else_never_shortens(planted: Planted, field: str, count: str) -> None:
    """The fields that count and chain the segments: whatever they hold, the data is whole or the read is refused."""
    ctx = planted.store._space.keys.root.ctx(planted.context_id)
    planted.server.admin.hset(ctx, field, count)
    try:
        assert planted.store.restore(planted.context_id, touch=False).data == {"log": ITEMS, "n": 1}
    except (ContextCorrupted, UnsupportedFormat):
        return


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED.keys())
def test_what_was_verified_while_it_was_sound_is_still_served_or_refused(planted: Planted, forge: Forge) -> None:
    """A process that holds the context gives what it verified; after the next append it takes in nothing damaged."""
    url, tenant = planted.server.url, planted.store.tenant
    with (
        ContextStore.connect(url, tenant=tenant, settings=Settings(near_cache="on")) as holder,
        ContextStore.connect(url, tenant=tenant, settings=Settings(near_cache="on")) as writer,
    ):
        for store in (holder, writer):
            store.restore(planted.context_id)
        forge(planted)
        assert holder.restore(planted.context_id, touch=False).data == {"log": ITEMS, "n": 1}
        try:
            writer.append(planted.context_id, ("log",), ["new"])
        except ContextCorrupted:
            return
        planted.put([*planted.segments[:-1], planted.segments[-1][:-1] + b"\x7f"])
        for _ in range(2):
            with pytest.raises((ContextCorrupted, UnsupportedFormat)):
                holder.restore(planted.context_id)


def test_a_preserve_heals(planted: Planted) -> None:
    """Writing the context again takes the damaged list away, with exact accounts."""
    planted.put(planted.segments[1:])
    assert [fault.fault for fault in planted.store.check().faults] == ["segments"]
    planted.store.preserve("s", {"new": 1}, context_id=planted.context_id)
    assert planted.segments == []
    assert planted.store.restore(planted.context_id).data == {"new": 1}
    assert planted.store.check().sound


@pytest.mark.parametrize("forge", [FORGED["the last is missing"], FORGED["all are gone"]], ids=["one", "all"])
def test_a_repair_does_not_hide_what_is_missing(planted: Planted, forge: Forge) -> None:
    """Check reports missing segments, also after repair: no account can give them back."""
    forge(planted)
    assert "segments" in {fault.fault for fault in planted.store.check().faults}
    planted.store.repair()
    assert "segments" in {fault.fault for fault in planted.store.check().faults}
    with pytest.raises(ContextCorrupted):
        planted.store.restore(planted.context_id)


def test_damage_before_a_fold_is_found_after_it_by_nobody_else(planted: Planted) -> None:
    """A fold sends what was verified: damage that comes between its read and its write does not reach the new body."""
    store = planted.store
    found = store.run(read(store._space, planted.context_id))
    FORGED["a bit of 2 at 0.7"](planted)
    assert store.run(fold(store._space, planted.context_id, found.held, found.metadata))
    assert store.restore(planted.context_id).data == {"log": ITEMS, "n": 1}
    assert store.check().sound
