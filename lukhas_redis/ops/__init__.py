"""The operations: what a method of the store asks of Redis, step by step, without doing any I/O.

What belongs here: one generator per operation (see `calls.Op`). What does not: sockets, clocks, randomness.
Invariant: the two shells (`store`, `aio`) drive these same generators, so sync and async cannot differ.
"""

from lukhas_redis.ops.change import append, patch
from lukhas_redis.ops.control import audit, flags, set_flag, set_mode
from lukhas_redis.ops.describe import hops, lifecycle, metadata
from lukhas_redis.ops.handoff import handoff
from lukhas_redis.ops.leases import lease, release, renew
from lukhas_redis.ops.preserve import preserve, preserve_many
from lukhas_redis.ops.restore import restore, restore_many
from lukhas_redis.ops.soundness import check, repair
from lukhas_redis.ops.survey import Cursor, events, list_page, stats
from lukhas_redis.ops.sweep import sweep
from lukhas_redis.ops.upkeep import drop, extend, pin

__all__ = [
    "Cursor",
    "append",
    "audit",
    "check",
    "drop",
    "events",
    "extend",
    "flags",
    "handoff",
    "hops",
    "lease",
    "lifecycle",
    "list_page",
    "metadata",
    "patch",
    "pin",
    "preserve",
    "preserve_many",
    "release",
    "renew",
    "repair",
    "restore",
    "restore_many",
    "set_flag",
    "set_mode",
    "stats",
    "sweep",
]
