"""Where a tenant's contexts are: its settings, keys, shards, and which incarnation of the server's data is known.

What belongs here: what every operation needs to know of the tenant. What does not: the operations.
Invariant: `shards` is what the tenant's record on the server says, or None until it was read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lukhas_redis.calls import Call, Op, Read, Refused
from lukhas_redis.codec import CodecLimits
from lukhas_redis.errors import OutcomeUnknown, Unavailable
from lukhas_redis.keys import KeySpace, ShardKeys, shard_of
from lukhas_redis.ops.frame import Frame
from lukhas_redis.ops.near import NearCache, SeenLists
from lukhas_redis.scripts import Arg, load
from lukhas_redis.settings import Settings

T = TypeVar("T")
# Callers may make up any number of types.
_MOST_FRAMES = 1000


@dataclass
class Space:
    """One tenant as one store sees it. `mint` returns 32 hex digits of fresh randomness.

    `seen_dry`: the tenant was in dry run when last looked at, so a large payload is not sent ahead of its script.
    `hop_ms`: how long this store's last handoff of a context took; it is recorded with the next one.
    """

    settings: Settings
    mint: Callable[[], str]
    tenant: str
    shards: int | None = None
    markers: dict[str, str] = field(default_factory=dict)
    resets: int = 0
    touch_denied: bool = False
    seen_dry: bool = False
    hop_ms: OrderedDict[str, float] = field(default_factory=OrderedDict)
    frames: dict[tuple[Any, ...], Frame] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.settings
        self.near = NearCache(settings.max_cache_size_entries, settings.max_cache_size_bytes)
        self.seen = SeenLists()
        self.keys = KeySpace(self.settings.prefix, self.tenant)
        self.limits = CodecLimits(self.settings.max_context_size_bytes, self.settings.max_depth)

    def shard_for(self, context_id: str) -> ShardKeys:
        """The shard of a context; until the tenant's record was read, as the settings would create it."""
        count = self.shard_count
        return self.keys.shards(count)[shard_of(context_id, count)]

    def settled(self, context_id: str) -> ShardKeys | None:
        """The shard of a context, when the tenant's record and that of the shard have been read."""
        if self.shards is None:
            return None
        keys = self.keys.shards(self.shards)[shard_of(context_id, self.shards)]
        return keys if keys.tag in self.markers else None

    def framed(self, known: tuple[Any, ...], frame: Frame) -> Frame:
        """Keep a frame under everything that it depends on."""
        if len(self.frames) >= _MOST_FRAMES:
            self.frames.clear()
        self.frames[known] = frame
        return frame

    def holds(self, context_type: str) -> bool:
        """Whether contexts of a type are held in the near cache."""
        wanted = self.settings.near_cache
        return wanted == "on" or (wanted == "by_type" and self.settings.policy(context_type).near_cache)

    @property
    def shard_count(self) -> int:
        """How many shards the tenant has, or would get."""
        return self.shards or self.settings.shards

    def all_shards(self) -> tuple[ShardKeys, ...]:
        """Every shard that holds contexts."""
        return self.keys.shards(self.shard_count)

    def hop_took(self, context_id: str, ms: float) -> None:
        """Remember how long a handoff took, for the last thousand contexts."""
        self.hop_ms[context_id] = ms
        if len(self.hop_ms) > 1000:
            self.hop_ms.popitem(last=False)

    def met(self, tag: str, marker: bytes | None, believed: str | None) -> None:
        """Note which incarnation of the server's data a shard showed; another one than before is a reset.

        `believed` is what was known when the question was sent: when another call learned something meanwhile,
        this answer may be the older one and says nothing.
        """
        known, seen = self.markers.get(tag), marker.decode() if marker else None
        if known != believed:
            return
        if known is not None and known != seen:
            self.resets += 1
            self.forget()
        if seen is not None:
            self.markers[tag] = seen

    def forget(self) -> None:
        """Unlearn what was known of the tenant's record, because a script said that it is not so."""
        self.shards = None
        self.markers.clear()


def discover(space: Space) -> Op[None]:
    """Read how many shards the tenant has, if it has a record; changes nothing on the server."""
    root = space.keys.root
    believed = space.markers.get(root.tag)
    record, mode = yield (
        Read(root.tag, ("HMGET", root.shard, "shards", "marker")),
        Read(root.tag, ("HGET", root.flags, "mode")),
    )
    for reply in (record, mode):
        if isinstance(reply, BaseException):
            raise reply
    shards, marker = record
    space.seen_dry = (mode or space.settings.initial_mode.encode()) == b"dry_run"
    space.met(root.tag, marker, believed)
    if shards and marker:
        space.shards = int(shards)


def open_shard(space: Space, keys: ShardKeys) -> Op[None]:
    """Give the tenant and one of its shards their records, unless they have them."""
    for place in dict.fromkeys((space.keys.root, keys)):
        script = load("open")
        marker, mode = space.mint()[:16], space.settings.initial_mode
        args: dict[str, Arg] = {"shards": space.shard_count, "marker": marker, "mode": mode}
        inherited = () if place is space.keys.root else (yield from _root_flags(space))
        words = script.pack({"flags": place.flags, "shard": place.shard}, args, (), inherited)
        believed = space.markers.get(place.tag)
        shards, marker, _ = yield Call(script, place.tag, words, request_id="open")
        space.met(place.tag, marker, believed)
        space.shards = int(shards)


def _root_flags(space: Space) -> Op[Sequence[bytes]]:
    """Names and values: whoever set them may not have known how many shards there would be."""
    root = space.keys.root
    found = yield Read(root.tag, ("HGETALL", root.flags))
    return [part for pair in found.items() for part in pair] if isinstance(found, Mapping) else found


def aside(step: Op[T]) -> Op[T]:
    """A step on the way to a write that was not made yet: a doubt about it is none about the write.

    Raises:
        Unavailable: The step may or may not be done; the write it was for is not.
    """
    try:
        return (yield from step)
    except OutcomeUnknown as doubt:
        raise Unavailable(f"not applied: {doubt.fields['reason']}", reason=doubt.fields["reason"]) from doubt


def settle(space: Space, context_id: str, build: Callable[[ShardKeys], Call]) -> Op[list[bytes]]:
    """Send what `build` makes for the context's shard; learn the tenant's record on the way, as often as needed.

    Raises:
        Refused: The script refused for a reason of the context itself.
    """
    keys = space.settled(context_id)
    if keys is not None:
        # The common case: everything is known already, and it is so.
        believed = space.markers[keys.tag]
        try:
            return (yield build(keys))  # type: ignore[no-any-return]
        except Refused as refused:
            yield from _learn(space, keys, refused, believed)
    return (yield from settle_on(space, lambda: space.shard_for(context_id), build))


def settle_on(space: Space, place: Callable[[], ShardKeys], build: Callable[[ShardKeys], Call]) -> Op[list[bytes]]:
    """As `settle`, for whatever shard `place` names once the tenant's record is known."""
    for _ in range(3):
        if space.shards is None:
            yield from discover(space)
        keys = place()
        if space.shards is not None and keys.tag not in space.markers:
            space.met(keys.tag, (yield Read(keys.tag, ("HGET", keys.shard, "marker"))), None)
        believed = space.markers.get(keys.tag)
        try:
            return (yield build(keys))  # type: ignore[no-any-return]
        except Refused as refused:
            yield from _learn(space, keys, refused, believed)
    return (yield build(place()))  # type: ignore[no-any-return]


def _learn(space: Space, keys: ShardKeys, refused: Refused, believed: str | None) -> Op[None]:
    if refused.word == "LKCLOSED":
        yield from aside(open_shard(space, keys))
    elif refused.word == "LKRESET":
        # Of several calls that went out with the same belief, the first one counts the reset.
        space.met(keys.tag, None, believed)
    elif refused.word == "LKSHARDS":
        space.forget()
    else:
        raise refused
