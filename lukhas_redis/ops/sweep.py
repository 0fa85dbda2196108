"""sweep: take expired contexts out of the accounts and give their memory back.

What belongs here: the two steps of sweeping. What does not: deciding what is expired (`lua/sweep.lua`).
Invariant: a key is only ever touched with EXISTS here, so a context that was preserved again is never harmed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lukhas_redis.calls import Call, Op, Read, Refused
from lukhas_redis.errors import InvalidArgument
from lukhas_redis.keys import ShardKeys
from lukhas_redis.models import Swept
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, aside, discover, settle_on
from lukhas_redis.ops.writing import ACCOUNT_KEYS, context_keys, keeping_args, shard_keys, tenant_args
from lukhas_redis.scripts import load

_A_CALL = 100
_A_WRITE = 300


def sweep(space: Space, *, limit: int = 10_000, dry_run: bool | None = None) -> Op[Swept]:
    """Remove up to `limit` expired contexts from the tenant's accounts, 100 a call, and free their memory.

    After success each removed context had one `context.expire` event and its memory is given back; a failure
    half way leaves what was done done, and the rest for the next sweep.

    Raises:
        InvalidArgument: `limit` is not a whole number from 1; nothing was sent.
        Unavailable: Retry later; sweeping twice does no harm.
    """
    if type(limit) is not int or limit < 1:
        raise InvalidArgument(f"limit {limit!r:.40} is not a whole number from 1")
    removed = remaining = 0
    dry = bool(dry_run)
    if space.shards is None:
        yield from discover(space)
    for number in range(len(space.all_shards())):
        place = partial(_shard, space, number)
        left = 1
        while left and removed < limit and not dry:
            most = min(_A_CALL, limit - removed)
            ids, left, dry = yield from sweep_shard(space, place, most=most)
            removed += 0 if dry else len(ids)
        if dry or removed >= limit:
            left = yield from _waiting(space, place)
        would = min(left, limit - removed) if dry else 0
        removed, remaining = removed + would, remaining + left - would
    return Swept(removed, remaining, dry)


def _waiting(space: Space, place: Callable[[], ShardKeys]) -> Op[int]:
    """How many contexts of a shard are past their deadline and still in the accounts."""
    ids, left, _ = yield from sweep_shard(space, place, most=1, dry=True)
    return len(ids) + left


def _shard(space: Space, number: int) -> ShardKeys:
    return space.all_shards()[number]


def sweep_around(space: Space, context_id: str) -> Op[int]:
    """Make room for a write on a context's shard; how many expired contexts went.

    Raises:
        Unavailable: They may be gone or not; the write was not made.
    """
    gone, _, _ = yield from aside(sweep_shard(space, lambda: space.shard_for(context_id), most=_A_WRITE))
    return len(gone)


def sweep_shard(
    space: Space, place: Callable[[], ShardKeys], *, most: int, dry: bool = False
) -> Op[tuple[list[str], int, bool]]:
    """One bounded step on one shard: the ids removed, how many remain, and whether it was a dry run."""

    def call(keys: ShardKeys) -> Call:
        script = load("sweep")
        args = {**tenant_args(space, keys, dry=dry), **keeping_args(space), "most": most}
        return Call(script, keys.tag, script.pack(shard_keys(keys, *ACCOUNT_KEYS), args), request_id="sweep")

    try:
        reply = yield from settle_on(space, place, call)
    except Refused as refused:
        raise explain(refused, f"sweep of tenant {space.tenant}") from None
    ids = [member.decode() for member in reply[3:]]
    was_dry = reply[1] == b"1"
    if ids and not was_dry:
        keys = place()
        touched = [key for context_id in ids for key in context_keys(keys, context_id).values()]
        yield Read(keys.tag, ("EXISTS", *touched))
    return ids, int(reply[2]), was_dry
