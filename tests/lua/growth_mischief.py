"""Damage to a context where it grows: what its hash says of its segments, and the list of them.

What belongs here: one thing wrong in a context that may be sound otherwise. What does not: damage to the shard's other
keys, and calls (`mischief`). Invariant: it draws from the Random it is given, and from nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.lua.shard import PARTS, Shard, segment

FIELDS = (
    *("seq", "shape", "chain", "root", "segs", "segs_bytes", "segs_raw", "lease", "version", "expires_ms", "nonce"),
    *("digest", "session", "type", "stored_bytes", "raw_bytes", "updated_ms", "accessed_ms", "pinned"),
)
GARBAGE = ("abc", "", "nan", "inf", "1.5", " 1", "0x10", "1e14", "\xff", "1 1", "-")
HUGE = (str(2**63), str(-(2**63)), str(10**17), "9" * 30, str(9 * 10**15), "-1", "-5")
# Live, lapsed, and no leases at all.
LEASES = ("7 99999999999999", "7 99999999999999", "7 1", "7", "", "x y", "-7 99999999999999", "7 9e30", "7 nan")


def damage_growth(shard: Shard, random: Random, one: str) -> None:
    """Do one thing to the context that no script would do."""
    kinds = (_lose, _spoil, _shift, _resize, _other_list, _other_type)
    kind: Callable[[Shard, Random, str], None] = random.choices(kinds, [2, 3, 2, 3, 1, 8])[0]
    kind(shard, random, one)


def plant_other_type(shard: Shard, random: Random, key: str) -> None:
    """In place of whatever the key holds, something small of any type: by chance of the right one."""
    client = shard.client
    client.delete(key)
    plant: list[Callable[[], Any]] = [
        lambda: client.set(key, "planted"),
        lambda: client.rpush(key, "planted"),
        lambda: client.zadd(key, {"planted": 1}),
        lambda: client.hset(key, "planted", "1"),
        lambda: client.xadd(key, {"planted": "1"}),
        lambda: client.sadd(key, "planted"),
    ]
    random.choice(plant)()


def _lose(shard: Shard, random: Random, one: str) -> None:
    """A field is missing."""
    if _has_fields(shard, one):
        shard.client.hdel(shard.keys.ctx(one), random.choice(FIELDS))


def _spoil(shard: Shard, random: Random, one: str) -> None:
    """A field holds no number of ours, or none in bounds."""
    if _has_fields(shard, one):
        name = random.choice(FIELDS)
        values = LEASES if name == "lease" else random.choice((GARBAGE, HUGE))
        shard.client.hset(shard.keys.ctx(one), name, random.choice(values))


def _shift(shard: Shard, random: Random, one: str) -> None:
    """A number is wrong and looks right: one more or less, negative, nothing."""
    if not _has_fields(shard, one):
        return
    key, name = shard.keys.ctx(one), random.choice(FIELDS)
    found: Any = shard.client.hget(key, name)
    number = int(found) if found and found.isdigit() else 0
    shard.client.hset(key, name, str(random.choice((number + 1, number - 1, -number, 0))))


def _resize(shard: Shard, random: Random, one: str) -> None:
    """The list is longer or shorter than the hash says, or gone."""
    client, key = shard.client, shard.keys.segs(one)
    if client.type(key) not in (b"list", b"none"):
        return
    kinds: list[Callable[[], Any]] = [
        lambda: client.rpush(key, segment(b"stray")),
        lambda: client.lpush(key, segment(b"stray")),
        lambda: client.rpush(key, "stray"),
        lambda: client.rpop(key),
        lambda: client.lpop(key),
        lambda: client.unlink(key),
    ]
    random.choice(kinds)()


def _other_list(shard: Shard, random: Random, one: str) -> None:
    """As many segments as there should be, and not those."""
    client, key = shard.client, shard.keys.segs(one)
    if client.type(key) != b"list":
        return
    first = random.random() < 0.5
    (client.lpop if first else client.rpop)(key)
    (client.lpush if first else client.rpush)(key, random.choice([segment(b"stray"), b"", b"x" * 48]))


def _other_type(shard: Shard, random: Random, one: str) -> None:
    """One of the context's keys holds something else; those that grow more often than others."""
    part = random.choice((*PARTS, "segs", "log", "log"))
    plant_other_type(shard, random, getattr(shard.keys, part)(one))


def _has_fields(shard: Shard, one: str) -> bool:
    return shard.client.type(shard.keys.ctx(one)) == b"hash"
