"""check, repair: prove the accounts sound, or make them so after somebody deleted keys by hand.

What belongs here: going over all contexts, a hundred at a time. What does not: what a fault is (`lua/includes/faults`).
Invariant: check changes nothing; repair changes accounts and buries what is lost, it never touches sound data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lukhas_redis.calls import Call, Op, Read, Refused
from lukhas_redis.keys import ShardKeys
from lukhas_redis.models import Checked, Fault
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, discover
from lukhas_redis.ops.writing import keeping_args, shard_keys, tenant_args
from lukhas_redis.scripts import Arg, load

_A_CALL = 100
_A_SCAN = 1000
_END = b""


def check(space: Space) -> Op[Checked]:
    """Report every fault in the tenant's accounts; changes nothing. Cost: about 15 us of server time a context.

    Raises:
        Unavailable: Retry later.
    """
    return (yield from _audit(space, repair=False))


def repair(space: Space) -> Op[Checked]:
    """Report and put right every fault: accounts follow the data, and what is lost is buried with an event.

    In a tenant in dry run the faults are reported and left as they are.

    Raises:
        Unavailable: Some faults may be repaired; repeat it.
    """
    return (yield from _audit(space, repair=True))


def _audit(space: Space, *, repair: bool) -> Op[Checked]:
    yield from discover(space)
    faults: dict[Fault, None] = {}
    off: list[tuple[int, int] | None] = []
    try:
        for keys in space.all_shards():
            yield from _audit_shard(space, keys, faults, repair=repair)
            off.append((yield from _recount(space, keys, repair=repair)))
    except Refused as refused:
        raise explain(refused, f"check of tenant {space.tenant}") from None
    known = [pair for pair in off if pair is not None]
    counted = len(known) == len(off)
    bytes_off = sum(pair[0] for pair in known) if counted else None
    entries_off = sum(pair[1] for pair in known) if counted else None
    dry = repair and space.seen_dry
    return Checked(tuple(faults), bytes_off, entries_off, repaired=repair and not dry, dry_run=dry)


def _audit_shard(space: Space, keys: ShardKeys, faults: dict[Fault, None], *, repair: bool) -> Op[None]:
    """Contexts are found where any of the three places names one: their own keys, the sizes, the index."""
    for source in ("SCAN", "HSCAN", "ZSCAN"):
        cursor = b"0"
        while cursor != _END:
            cursor, found = yield Read(keys.tag, _scan(source, keys, cursor))
            cursor = _END if int(cursor) == 0 else cursor
            ids = list(dict.fromkeys(_ids(source, keys, found)))
            for start in range(0, len(ids), _A_CALL):
                for fault in (yield from _step(space, keys, ids[start : start + _A_CALL], repair=repair)):
                    faults[fault] = None


def _scan(source: str, keys: ShardKeys, cursor: bytes) -> tuple[Arg, ...]:
    if source == "SCAN":
        return ("SCAN", cursor, "MATCH", f"{keys.base}ctx:*", "COUNT", _A_SCAN)
    return (source, keys.sizes if source == "HSCAN" else keys.index, cursor, "COUNT", _A_SCAN)


def _ids(source: str, keys: ShardKeys, found: Sequence[bytes]) -> Iterable[str]:
    if source == "SCAN":
        start = len(f"{keys.base}ctx:")
        return (key.decode()[start:] for key in found)
    return (member.decode() for member in (found if isinstance(found, dict) else found[::2]))


def _step(space: Space, keys: ShardKeys, ids: Sequence[str], *, repair: bool) -> Op[list[Fault]]:
    script = load("repair" if repair else "check")
    names = ["index", "order", "sizes"]
    args: dict[str, Arg] = {}
    if repair:
        names += ["usage", "tombs", "events", "flags", "shard"]
        args = {**tenant_args(space, keys, dry=False), **keeping_args(space)}
    more = [key for context_id in ids for key in (keys.ctx(context_id), keys.body(context_id), keys.segs(context_id))]
    words = script.pack(shard_keys(keys, *names), args, more, ids)
    reply = yield Call(script, keys.tag, words, request_id="repair")
    flat = reply[2:] if repair else reply
    return [Fault(c.decode(), f.decode()) for c, f in zip(flat[::2], flat[1::2], strict=True)]


def _recount(space: Space, keys: ShardKeys, *, repair: bool) -> Op[tuple[int, int] | None]:
    script = load("recount")
    words = script.pack(
        shard_keys(keys, "sizes", "usage", "flags"), {"dry": int(not repair), "mode": space.settings.initial_mode}
    )
    try:
        bytes_off, entries_off = yield Call(script, keys.tag, words, request_id="recount")
    except Refused as refused:
        if refused.word == "LKLARGE":
            return None
        raise
    return int(bytes_off), int(entries_off)
