"""What all writes share: the request id, its digest, the dry run, the keeping of history.

What belongs here: the arguments of the groups `@request`, `@tenant` and `@keeping` of the Lua headers.
What does not: the arguments of one script.
Invariant: a write that may change something carries a request id, so that repeating it is harmless.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from lukhas_redis.calls import Call
from lukhas_redis.errors import InvalidArgument
from lukhas_redis.keys import ShardKeys, valid_request_id
from lukhas_redis.models import Lease
from lukhas_redis.ops.frame import Filled
from lukhas_redis.ops.space import Space
from lukhas_redis.scripts import Arg

# What every script that changes the accounts of a shard takes.
ACCOUNT_KEYS = ("index", "order", "sizes", "usage", "tombs", "events", "flags", "shard")
DURABILITIES = ("memory", "local", "replicated")


class Write(NamedTuple):
    """How one write is to be done; `digest` stands for the caller's own arguments, without minted ids."""

    request_id: str
    digest: str
    durability: str
    dry: bool


def begin(
    space: Space, asked: tuple[Any, ...], request_id: str | None, durability: str | None, dry_run: bool | None
) -> Write:
    """Check the options every write has and name the request.

    Raises:
        InvalidArgument: One of them is malformed; nothing was sent. A retry cannot help.
    """
    if dry_run not in (None, True, False):
        raise InvalidArgument(f"dry_run must be True, False or None, not {dry_run!r:.40}")
    level = durability or space.settings.durability
    if level not in DURABILITIES:
        raise InvalidArgument(f"durability {level!r:.40} is not one of {', '.join(DURABILITIES)}")
    rid = valid_request_id(request_id) if request_id is not None else space.mint()
    digest = hashlib.sha256(repr(asked).encode("utf-8", "backslashreplace")).hexdigest()[:32]
    # What changes nothing has nothing to confirm.
    return Write(rid, digest, "memory" if dry_run else level, bool(dry_run))


def request_args(space: Space, write: Write) -> dict[str, Arg]:
    """The `@request` group: a dry run remembers nothing, but still answers as an earlier live request did."""
    return {
        "request_id": write.request_id,
        "request": write.digest,
        "durable": int(write.durability == "replicated"),
        "retention_ms": space.settings.request_retention_seconds * 1000,
    }


def tenant_args(space: Space, keys: ShardKeys, *, dry: bool) -> dict[str, Arg]:
    """The `@tenant` group. The shards are those the keys were chosen for, also while they are only assumed."""
    return {
        "dry": int(dry),
        "mode": space.settings.initial_mode,
        "shards": space.shard_count,
        "marker": space.markers.get(keys.tag, ""),
    }


def place_of(space: Space, keys: ShardKeys) -> tuple[Any, ...]:
    """All that `tenant_args` depends on, dry or not."""
    return keys.base, space.shard_count, space.markers.get(keys.tag, "")


def keeping_args(space: Space) -> dict[str, Arg]:
    """The `@keeping` group."""
    settings = space.settings
    return {
        "window": settings.event_window_entries,
        "grace_ms": settings.tombstone_grace_seconds * 1000,
        "max_tombs": settings.max_tombstones,
    }


def common_args(space: Space, keys: ShardKeys, write: Write) -> dict[str, Arg]:
    """All three groups, for scripts that write a context."""
    return {**request_args(space, write), **tenant_args(space, keys, dry=write.dry), **keeping_args(space)}


def write_call(filled: Filled, keys: ShardKeys, write: Write) -> Call:
    """The call of a write whose words were filled into a frame."""
    return Call(filled.script, keys.tag, filled, write.request_id, None, write.durability, packed=filled.packed)


def lease_argument(lease: Lease | int | None) -> str:
    """The fencing token as the scripts take it; '' stands for none.

    Raises:
        InvalidArgument: Neither a lease nor a token; nothing was sent. A retry cannot help.
    """
    token = lease.token if isinstance(lease, Lease) else lease
    if token is None:
        return ""
    if type(token) is not int or not 0 < token < 10**15:
        raise InvalidArgument(f"lease {lease!r:.60} is neither a Lease nor its fencing token (a whole number)")
    return str(token)


def shard_keys(keys: ShardKeys, *names: str) -> dict[str, str]:
    """Keys of the shard as a whole, by name."""
    return {name: getattr(keys, name) for name in names}


def context_keys(keys: ShardKeys, context_id: str) -> dict[str, str]:
    """The five keys of one context, by name."""
    return {
        "ctx": keys.ctx(context_id),
        "body": keys.body(context_id),
        "segs": keys.segs(context_id),
        "hops": keys.hops(context_id),
        "log": keys.log(context_id),
    }
