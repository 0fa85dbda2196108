"""list, stats, events: looking at a whole tenant.

What belongs here: reads over all shards. What does not: checking and repairing (`soundness`), flags (`control`).
Invariant: bounded work per call; a listing tolerates contexts that come and go under it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lukhas_redis.calls import Call, Op, Read, Refused, Request
from lukhas_redis.errors import InvalidArgument, LukhasRedisError
from lukhas_redis.keys import ShardKeys, valid_name, valid_session
from lukhas_redis.models import Event, Metadata, ShardStats, Stats
from lukhas_redis.ops.describe import fields_of, metadata_from, pairs
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, discover
from lukhas_redis.ops.writing import shard_keys
from lukhas_redis.scripts import load

_EVENT_ID = re.compile(r"[0-9]{1,19}(-[0-9]{1,19})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a listing goes on: a shard, and the last context seen there. `shard` -1 is the end."""

    shard: int = 0
    after: str = ""
    after_ms: int = 0

    @property
    def done(self) -> bool:
        """Whether the listing is at its end."""
        return self.shard < 0


def list_page(
    space: Space,
    cursor: Cursor,
    *,
    session_id: str | None = None,
    context_type: str | None = None,
    page: int = 100,
) -> Op[tuple[list[Metadata], Cursor]]:
    """The metadata of up to `page` live contexts after `cursor`, and the cursor after them.

    A context that lives unchanged through the whole listing is listed exactly once; one whose deadline moves
    meanwhile may be listed twice or missed.

    Raises:
        InvalidArgument, InvalidId: Nothing was sent; do not retry.
        Unavailable: Retry later, from the same cursor.
    """
    if type(page) is not int or not 1 <= page <= 1000:
        raise InvalidArgument(f"page {page!r:.40} is not a whole number from 1 to 1000")
    sid = valid_session(session_id) if session_id is not None else None
    kind = valid_name(context_type, "context_type") if context_type is not None else None
    if space.shards is None:
        yield from discover(space)
    keys = space.all_shards()[cursor.shard]
    script = load("list")
    members = {"members": keys.session(sid) if sid else keys.index}
    words = script.pack(members, {"after": cursor.after, "after_ms": cursor.after_ms, "count": page})
    try:
        flat = yield Call(script, keys.tag, words)
    except Refused as refused:
        raise explain(refused, f"list of tenant {space.tenant}") from None
    found = [(member.decode(), int(float(deadline))) for member, deadline in _scored(flat)]
    listed = yield from _described(keys, [context_id for context_id, _ in found])
    after = Cursor(cursor.shard, *found[-1]) if len(found) == page else _next_shard(space, cursor)
    return [one for one in listed if kind in (None, one.context_type) and sid in (None, one.session_id)], after


def _scored(flat: Sequence[bytes | Sequence[bytes]]) -> list[tuple[bytes, bytes]]:
    """Members and scores, flat in RESP2 and in pairs in RESP3."""
    if flat and isinstance(flat[0], list | tuple):
        return [(pair[0], pair[1]) for pair in flat]  # type: ignore[misc]
    return list(zip(flat[::2], flat[1::2], strict=True))  # type: ignore[arg-type]


def _next_shard(space: Space, cursor: Cursor) -> Cursor:
    following = cursor.shard + 1
    return Cursor(following) if following < len(space.all_shards()) else Cursor(-1)


def _described(keys: ShardKeys, ids: Sequence[str]) -> Op[list[Metadata]]:
    if not ids:
        return []
    wanted: list[Request] = [Read(keys.tag, ("TIME",))]
    wanted += [Read(keys.tag, ("HGETALL", keys.ctx(context_id))) for context_id in ids]
    clock, *hashes = yield tuple(wanted)
    for reply in (clock, *hashes):
        if isinstance(reply, LukhasRedisError):
            raise reply
    now_ms = int(clock[0]) * 1000 + int(clock[1]) // 1000
    return [
        metadata_from(context_id, fields_of(fields), now_ms)
        for context_id, fields in zip(ids, hashes, strict=True)
        if fields
    ]


def stats(space: Space) -> Op[Stats]:
    """Return the tenant's use, limits, totals and mode, each shard at one moment; changes nothing.

    Raises:
        Unavailable: Retry later.
    """
    yield from discover(space)
    script = load("stats")
    names = ("index", "order", "usage", "tombs", "events", "flags", "shard")
    shards = space.all_shards()
    replies = yield tuple(Call(script, keys.tag, script.pack(shard_keys(keys, *names), {})) for keys in shards)
    for reply in replies:
        if isinstance(reply, BaseException):
            raise reply
    return _summed(space, [_shard_stats(keys, reply) for keys, reply in zip(shards, replies, strict=True)])


def _shard_stats(keys: ShardKeys, reply: Sequence[object]) -> ShardStats:
    now_ms, live, expired, ordered, tombs, events, totals, flags, shard = reply
    record = _text(shard)
    return ShardStats(
        shard=keys.tag,
        live=_int(live),
        expired=_int(expired),
        ordered=_int(ordered),
        tombs=_int(tombs),
        events=_int(events),
        totals={name: int(value) for name, value in _text(totals).items() if value.lstrip("-").isdigit()},
        flags=_text(flags),
        marker=record.get("marker"),
        now_ms=_int(now_ms),
    )


def _int(value: object) -> int:
    return int(value) if isinstance(value, int | bytes) else 0


def _text(flat: object) -> dict[str, str]:
    return {name: bytes(value).decode("utf-8", "replace") for name, value in pairs(flat).items()}  # type: ignore[arg-type]


def _summed(space: Space, shards: list[ShardStats]) -> Stats:
    settings, flags = space.settings, shards[0].flags
    totals: dict[str, int] = {}
    for one in shards:
        for name, value in one.totals.items():
            if not name.startswith("rate_"):
                totals[name] = totals.get(name, 0) + value
    max_entries = int(flags.get("max_entries") or settings.max_memory_store_entries)
    max_bytes = int(flags.get("max_bytes") or settings.max_tenant_bytes)
    live, used = sum(one.live for one in shards), totals.get("bytes", 0)
    return Stats(
        tenant=space.tenant,
        mode=flags.get("mode") or settings.initial_mode,
        policy=flags.get("policy") or settings.eviction_policy,
        live=live,
        expired=sum(one.expired for one in shards),
        bytes=used,
        max_entries=max_entries,
        max_bytes=max_bytes,
        pressure=min(1.0, max(live / max_entries if max_entries else 1.0, used / max_bytes if max_bytes else 0.0)),
        totals=totals,
        flags=flags,
        shards=tuple(shards),
    )


def events(space: Space, *, after: str = "0", count: int = 100, shard: int = 0) -> Op[list[Event]]:
    """Up to `count` lifecycle events of one shard after the event id `after` ("0" = from the oldest kept).

    Raises:
        InvalidArgument: `count` is not a whole number from 1 to 1000, `after` no event id, or there is no such shard.
        Unavailable: Retry later.
    """
    if type(count) is not int or not 1 <= count <= 1000:
        raise InvalidArgument(f"count {count!r:.40} is not a whole number from 1 to 1000")
    if not _EVENT_ID.fullmatch(str(after)):
        raise InvalidArgument(f"after {after!r:.40} is not an event id such as 1795411152677-0")
    if space.shards is None:
        yield from discover(space)
    if type(shard) is not int or not 0 <= shard < space.shard_count:
        raise InvalidArgument(f"shard {shard!r:.40} is not one of the tenant's {space.shard_count}, counted from 0")
    keys = space.all_shards()[shard]
    entries = yield Read(keys.tag, ("XRANGE", keys.events, f"({after}", "+", "COUNT", count))
    return [_event(entry_id, pairs(fields)) for entry_id, fields in entries]


def _event(entry_id: bytes, fields: dict[str, bytes]) -> Event:
    return Event(entry_id.decode(), fields["event"].decode(), fields["id"].decode(), int(fields["version"]))
