"""What must add up in a shard whose keys nobody else has touched.

What belongs here: finding every account that is wrong, and a call that was not counted. What does not: `lua/check.lua`,
which looks at single contexts; this reads everything, from outside. Invariant: it reads only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from lukhas_redis.testing import Dump
from tests.lua.fuzzing import changed
from tests.lua.shard import PARTS, Shard, chained

# What a script that has changed something has counted once.
COUNTERS: Mapping[str, tuple[str, ...]] = {
    "preserve": ("preserved", "appended", "patched"),
    "append": ("appended", "patched"),
    "fold": ("folded",),
    "handoff": ("handed_off",),
    "drop": ("dropped",),
}


def wrong_accounts(shard: Shard) -> list[str]:
    """One line for each account that does not add up; empty when all do."""
    return [*_totals(shard), *_members(shard), *_contexts(shard)]


def miscounted(shard: Shard, before: Dump, name: str) -> list[str]:
    """A line when a call of this script has changed something since, and its own count did not go up by one."""
    if name not in COUNTERS or not changed(shard, before):
        return []
    after, key = shard.dump(), shard.keys.usage.encode()
    counts = [
        [count for one, count in found[key].content if one.decode() in COUNTERS[name]] if key in found else []
        for found in (before, after)
    ]
    if not all(count.isdigit() for found in counts for count in found):
        return []
    was, is_now = (sum(map(int, found)) for found in counts)
    return [] if is_now == was + 1 else [f"{name} changed data and its count went from {was} to {is_now}"]


def _sizes(shard: Shard) -> dict[str, tuple[int, str]]:
    found: Any = shard.client.hgetall(shard.keys.sizes)
    pairs = {one.decode(): value.decode().split(" ", 1) for one, value in found.items()}
    return {one: (int(size), kind) for one, (size, kind) in pairs.items()}


def _totals(shard: Shard) -> Iterator[str]:
    sizes, usage = _sizes(shard), shard.usage()
    if usage.get("entries", 0) != len(sizes):
        yield f"usage.entries {usage.get('entries')} but {len(sizes)} sizes"
    if usage.get("bytes", 0) != sum(size for size, _ in sizes.values()):
        yield f"usage.bytes {usage.get('bytes')} but sizes add up to {sum(size for size, _ in sizes.values())}"
    kinds = Counter(kind for _, kind in sizes.values())
    counted = {name.partition(":")[2]: n for name, n in usage.items() if name.startswith("entries:") and n}
    if counted != dict(kinds):
        yield f"by type {counted} but sizes say {dict(kinds)}"


def _members(shard: Shard) -> Iterator[str]:
    sizes, index, order = _sizes(shard), shard.scores(shard.keys.index), shard.scores(shard.keys.order)
    if set(index) != set(sizes):
        yield f"index and sizes differ in {set(index) ^ set(sizes)}"
    if not set(order) <= set(index):
        yield f"order has {set(order) - set(index)} beyond the index"
    for one, deadline in index.items():
        pinned = shard.client.hget(shard.keys.ctx(one), "pinned") is not None
        if deadline > shard.now_ms() and (one in order) == pinned:
            yield f"{one} is {'pinned and' if pinned else 'not pinned and not'} in the order"


def _contexts(shard: Shard) -> Iterator[str]:
    sizes, client, keys = _sizes(shard), shard.client, shard.keys
    for one, deadline in shard.scores(keys.index).items():
        if deadline <= shard.now_ms():
            continue
        found: Any = client.hgetall(keys.ctx(one))
        fields = {name.decode(): value.decode() for name, value in found.items()}
        body, appended = client.strlen(keys.body(one)), client.lrange(keys.segs(one), 0, -1)
        segments: Any = appended
        length = sum(map(len, segments))
        if body + length != sizes[one][0] or fields["stored_bytes"] != str(body):
            yield f"{one}: body of {body} bytes, segments of {length}, fields {fields}, size {sizes[one]}"
        if (fields.get("segs", "0"), fields.get("segs_bytes", "0")) != (str(len(segments)), str(length)):
            yield f"{one}: {len(segments)} segments of {length} bytes, but fields {fields}"
        if segments and chained(fields["root"], *segments) != fields["chain"]:
            yield f"{one}: its chain is not that of its segments: {fields}"
        if fields["type"] != sizes[one][1] or fields["expires_ms"] != f"{deadline:.0f}":
            yield f"{one}: fields {fields} but size {sizes[one]} and deadline {deadline}"
        for key in (getattr(keys, part)(one) for part in PARTS):
            if client.exists(key) and client.pexpiretime(key) != deadline:
                yield f"{key} ends at {client.pexpiretime(key)}, the index says {deadline}"
        session = keys.base + "session:" + quote(fields["session"], safe="")
        if client.zscore(session, one) != deadline:
            yield f"{one}: its session says {client.zscore(session, one)}, the index {deadline}"
