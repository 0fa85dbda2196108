"""lease, renew, release: one owner alone writes a context for a while.

What belongs here: the arguments of the three scripts. What does not: refusing writes, which every write script does
(`lua/includes/lease.lua`).
Invariant: a token is only ever given out once, and a later one is larger.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from lukhas_redis.calls import Call, Op, Refused
from lukhas_redis.errors import InvalidArgument
from lukhas_redis.keys import ShardKeys, valid_context_id, valid_name
from lukhas_redis.models import Lease, Released
from lukhas_redis.ops.refusals import explain
from lukhas_redis.ops.space import Space, settle
from lukhas_redis.ops.writing import Write, begin, keeping_args, lease_argument, request_args, shard_keys, tenant_args
from lukhas_redis.scripts import Arg, load

SHORTEST_MS, LONGEST_MS = 100, 86_400_000


def lease(
    space: Space,
    context_id: str,
    owner: str,
    ttl: float | timedelta,
    *,
    durability: str | None = None,
    dry_run: bool | None = None,
    request_id: str | None = None,
) -> Op[Lease]:
    """Let `owner` alone write a context for `ttl` (seconds from 0.1 to 86,400, or a timedelta) and return the lease.

    While it is live every write of the context without `lease=` is refused with `LeaseHeld`, and a write with a token
    that is not the live one with `LeaseLost`, even if nobody took over. Reads go on. A lease does not keep the context
    from expiring or from being evicted, and it ends with the context. Tokens grow over drops, restarts and failovers
    (they are never below the server's clock).

    Raises:
        InvalidArgument, InvalidId: Nothing was sent; do not retry.
        LeaseHeld: Somebody (also the same owner) holds it; retry after `fields["until_ms"]`.
        ContextNotFound and its kin: It is not there.
        TenantPaused, Unavailable: Nothing was changed; retry later.
        OutcomeUnknown, DurabilityUnknown: May be done; repeat with the same request id.
    """
    cid, name = valid_context_id(context_id), valid_name(owner, "owner")
    args: dict[str, Arg] = {"id": cid, "owner": name, "lease_ms": lease_milliseconds(ttl)}
    write = begin(space, ("lease", *args.values()), request_id, durability, dry_run)
    return _lease(cid, write, (yield from _asked(space, "lease", cid, write, args)))


def renew(
    space: Space,
    lease: Lease,
    ttl: float | timedelta,
    *,
    durability: str | None = None,
    dry_run: bool | None = None,
    request_id: str | None = None,
) -> Op[Lease]:
    """Let a live lease end `ttl` (as in `lease`) from now, and return it with its new end; works in a paused tenant.

    Raises:
        InvalidArgument: Nothing was sent; do not retry.
        LeaseLost: It has ended, also if nobody took over; nothing was changed.
        ContextNotFound and its kin: The context is gone, and the lease with it.
        Unavailable: Nothing was changed; retry later.
        OutcomeUnknown, DurabilityUnknown: May be done; repeat with the same request id.
    """
    cid, token = _parts(lease)
    args: dict[str, Arg] = {"lease": token, "id": cid, "lease_ms": lease_milliseconds(ttl)}
    write = begin(space, ("renew", *args.values()), request_id, durability, dry_run)
    return _lease(cid, write, (yield from _asked(space, "renew", cid, write, args)))


def release(
    space: Space,
    lease: Lease,
    *,
    durability: str | None = None,
    dry_run: bool | None = None,
    request_id: str | None = None,
) -> Op[Released]:
    """End a live lease; works in a paused tenant.

    Raises:
        InvalidArgument: Nothing was sent; do not retry.
        LeaseLost: It has ended already; nothing was changed.
        ContextNotFound and its kin: The context is gone, and the lease with it.
        Unavailable: Nothing was changed; retry later.
        OutcomeUnknown, DurabilityUnknown: May be done; repeat with the same request id.
    """
    cid, token = _parts(lease)
    args: dict[str, Arg] = {"lease": token, "id": cid}
    write = begin(space, ("release", *args.values()), request_id, durability, dry_run)
    reply = yield from _asked(space, "release", cid, write, args)
    return Released(cid, int(reply[3]), dry_run=write.dry or reply[1] == b"1")


def lease_milliseconds(ttl: object) -> int:
    """How long a lease lasts, as the scripts take it.

    Raises:
        InvalidArgument: Not seconds within 0.1 to 86,400; nothing was sent. A retry cannot help.
    """
    seconds = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if type(seconds) in (int, float) and SHORTEST_MS <= seconds * 1000 <= LONGEST_MS:  # type: ignore[operator]
        return round(seconds * 1000)  # type: ignore[operator]
    raise InvalidArgument(f"ttl {ttl!r:.40} of a lease is not seconds from 0.1 to 86400", ttl=str(ttl))


def _parts(lease: object) -> tuple[str, str]:
    if not isinstance(lease, Lease):
        raise InvalidArgument(f"lease {lease!r:.60} is no Lease as `lease` returns it")
    return valid_context_id(lease.context_id), lease_argument(lease)


def _lease(cid: str, write: Write, reply: Sequence[bytes]) -> Lease:
    _, dry, _, token, until_ms, owner = (part.decode() for part in reply)
    return Lease(cid, owner, int(token), int(until_ms), write.request_id, dry_run=write.dry or dry == "1")


def _asked(space: Space, name: str, cid: str, write: Write, args: dict[str, Arg]) -> Op[Sequence[bytes]]:
    script = load(name)
    keeps = "events" in script.key_names

    def call(keys: ShardKeys) -> Call:
        shared = ("index", "tombs", "flags", "shard", *(("events",) if keeps else ()))
        names = {"ctx": keys.ctx(cid), **shard_keys(keys, *shared), "req": keys.request(write.request_id)}
        common = {**request_args(space, write), **tenant_args(space, keys, dry=write.dry)}
        if keeps:
            common |= keeping_args(space)
        words = script.pack(names, {**common, **args})
        return Call(script, keys.tag, words, request_id=write.request_id, durability=write.durability)

    try:
        return (yield from settle(space, cid, call))
    except Refused as refused:
        raise explain(refused, f"context {cid} of tenant {space.tenant}", reset=space.resets > 0) from None
