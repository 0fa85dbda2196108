"""Consumer groups: joining, leaving, retiring; forgetting what all of them have finished.

What belongs here: the life of a group and of its workers' names. What does not: events (`deliveries`).
Invariant: nothing that a group has not finished is forgotten, except by `retire(force=True)`.
"""

from __future__ import annotations

from collections.abc import Callable

from lukhas_redis.bus_models import PRIORITIES, Retired, Trimmed
from lukhas_redis.calls import Op, Read
from lukhas_redis.errors import GroupNotFound, InvalidArgument, LukhasRedisError
from lukhas_redis.keys import ShardKeys
from lukhas_redis.ops.bus.common import STREAMS, Ask, ask, bus_keys, group_keys, group_name, known, shard_number
from lukhas_redis.ops.space import Space


def join(
    space: Space, group: str, *, waiting: str, start: str = "all", again: bool = False, shard: int = 0
) -> Op[tuple[bool, int]]:
    """See to it that a group exists on one shard; whether it is new, and how many streams it had been lost from.

    `waiting` names the workers that wait together. `start`: `all` = a new group begins with the oldest event that is
    still there, `new` = with the next one. A group that was lost goes on where it was; `again`: the worker had joined
    before, so a group that is not even known was lost with its books, and begins with the oldest event.

    Raises:
        InvalidArgument, InvalidId: Nothing was sent; do not retry.
        Unavailable: Retry later; joining twice does no harm.
    """
    if start not in ("all", "new"):
        raise InvalidArgument(f"start {start!r:.40} is neither 'all' nor 'new'")
    name = group_name(group)

    def names(keys: ShardKeys) -> dict[str, str]:
        return {**bus_keys(keys, *STREAMS, "wake", "groups"), **group_keys(keys, name, "group_key")}

    asked = Ask("join", names, {"group": name, "waking": waiting, "start": start, "again": int(again)})
    yield from known(space)
    reply = yield from ask(space, shard_number(space, shard), asked, f"group {name}")
    return reply[2] == b"1", int(reply[3])


def leave(space: Space, group: str, consumer: str, *, waiting: str, shard: int = 0) -> Op[int]:
    """Take a worker off the books; on how many streams it stays, because it still has something pending there."""
    asked = Ask(
        "leave",
        lambda keys: bus_keys(keys, *STREAMS, "wake"),
        {"group": group, "consumer": consumer, "waking": waiting},
    )
    reply = yield from ask(space, shard_number(space, shard), asked, f"group {group}")
    return int(reply[2])


def retire(space: Space, group: str, *, force: bool = False, dry_run: bool | None = None) -> Op[Retired]:
    """End a consumer group, so that it no longer keeps events from being forgotten.

    `force`: also when it has not finished everything; that is then lost to it. Workers that still run would make it
    anew: stop them first.

    Raises:
        InvalidId: Nothing was sent; do not retry.
        GroupPending: It has unfinished events; nothing was changed on that shard.
        Unavailable: Retry later; retiring twice does no harm.
    """
    name = group_name(group)
    asked = Ask(
        "retire",
        lambda keys: {**bus_keys(keys, *STREAMS, "groups"), **group_keys(keys, name)},
        {"group": name, "force": int(bool(force))},
        dry=bool(dry_run),
    )
    yield from known(space)
    existed, unfinished, dry = False, 0, bool(dry_run)
    for number in range(len(space.all_shards())):
        reply = yield from ask(space, shard_number(space, number), asked, f"group {name} of tenant {space.tenant}")
        existed, unfinished, dry = existed or reply[2] == b"1", unfinished + int(reply[3]), dry or reply[1] == b"1"
    return Retired(name, existed, unfinished, dry)


def groups(space: Space) -> Op[list[str]]:
    """The names of the tenant's consumer groups, sorted.

    Raises:
        Unavailable: Retry later.
    """
    yield from known(space)
    found: set[str] = set()
    for keys in space.all_shards():
        names = yield Read(keys.tag, ("HKEYS", keys.bus("groups")))
        found |= {name.decode() for name in names}
    return sorted(found)


def trim(space: Space, *, dry_run: bool | None = None) -> Op[Trimmed]:
    """Forget events that every group has finished and that are older than `bus_history_seconds`; workers do this too.

    Raises:
        Unavailable: Retry later.
    """
    yield from known(space)
    events = workers = 0
    dry = bool(dry_run)
    for number in range(len(space.all_shards())):
        one = yield from trim_shard(space, shard_number(space, number), dry=dry)
        events, workers, dry = events + one.events, workers + one.workers, dry or one.dry_run
    return Trimmed(events, workers, dry)


def trim_shard(
    space: Space, place: Callable[[], ShardKeys], *, pressure: bool = False, dry: bool = False
) -> Op[Trimmed]:
    """One bounded step on one shard; `pressure`: history makes room, too."""
    settings = space.settings
    asked = Ask(
        "trim",
        lambda keys: bus_keys(keys, *PRIORITIES, "wake", "groups"),
        {
            "history_ms": settings.bus_history_seconds * 1000,
            "max_entries": settings.bus_max_entries,
            "pressure": int(pressure),
            "idle_ms": settings.bus_worker_idle_seconds * 1000,
        },
        dry=dry,
    )
    reply = yield from ask(space, place, asked, f"bus of tenant {space.tenant}")
    return Trimmed(int(reply[2]), int(reply[3]), reply[1] == b"1")


def listen(space: Space, consumer: str, *, waiting: str, block_ms: int, shard: int = 0) -> Op[bool]:
    """Wait up to `block_ms` for a sign that there is something to claim; False: there was none.

    Raises:
        GroupNotFound: The workers' group is not there: `join`.
        Unavailable: Retry later.
    """
    yield from known(space)
    keys = shard_number(space, shard)()
    words = (
        "XREADGROUP",
        "GROUP",
        waiting,
        consumer,
        "COUNT",
        16,
        "BLOCK",
        block_ms,
        "NOACK",
        "STREAMS",
        keys.bus("wake"),
        ">",
    )
    try:
        found = yield Read(keys.tag, words)
    except LukhasRedisError as error:
        if "NOGROUP" in error.message:
            raise GroupNotFound(f"the workers' group {waiting} is not there") from None
        raise
    return bool(found)


def pass_on(space: Space, *, shard: int = 0) -> Op[None]:
    """Give a sign to the next idle worker: this one has its hands full."""
    keys = shard_number(space, shard)()
    yield Read(keys.tag, ("XADD", keys.bus("wake"), "MAXLEN", 16, "*", "look", "1"))
