"""What a soak leaves in the server once all is done, and what of it should not be there.

What belongs here: waiting until what may go has gone, and naming the rest. What does not: other verdicts.
Invariant: a key that is not known to stay is reported.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

import redis

from lukhas_redis.bus_models import PRIORITIES
from lukhas_redis.keys import ShardKeys
from tests.faults.bus_worker import ECHO, WORK
from tests.soak.crew import Crew

# Streams that are empty, the books of groups, and what a tenant keeps about itself. Held, parked and busy events, due
# times, contexts and answers are not among them. A session's list of contexts is a hint that goes with its deadline.
_STAYS = re.compile(
    rf"bus:({'|'.join(PRIORITIES)}|later|dead|wake|groups)|group:({WORK}|{ECHO})|usage|tombs|events|flags|shard|audit"
)
_HINT = "session:"
_WAITING = "@waiting"


def tidy(crew: Crew, client: redis.Redis, keys: ShardKeys, keep_seconds: int) -> None:
    """Trim and sweep until nothing that may go is left, or until it should have gone long ago."""
    ends = time.monotonic() + 2 * keep_seconds + 10
    while time.monotonic() < ends:
        crew.bus.trim()
        crew.store.sweep()
        if not left_over(client, keys) and not names_left(client, keys) and not entries_left(client, keys):
            return
        time.sleep(0.25)


def left_over(client: redis.Redis, keys: ShardKeys) -> list[str]:
    """Keys of the tenant that should not be there."""
    names = (name.decode() for name in client.scan_iter(match=f"{keys.base}*", count=1000))
    return sorted(name for name in names if not _may_stay(client, name, name[len(keys.base) :]))


def _may_stay(client: redis.Redis, name: str, part: str) -> bool:
    return bool(_STAYS.fullmatch(part)) or (part.startswith(_HINT) and client.pttl(name) != -1)


def entries_left(client: redis.Redis, keys: ShardKeys) -> dict[str, int]:
    """Streams that are not empty; `wake` never holds more than 16."""
    streams = {part: int(client.xlen(keys.bus(part))) for part in (*PRIORITIES, "later", "dead", "wake")}
    return {part: length for part, length in streams.items() if length > (16 if part == "wake" else 0)}


def names_left(client: redis.Redis, keys: ShardKeys) -> list[str]:
    """Names of workers, all of whom have ended, that are still on the books."""
    found = []
    for part in (*PRIORITIES, "wake"):
        for group in _groups(client, keys.bus(part)):
            consumers = client.xinfo_consumers(keys.bus(part), group)
            names = (one["name"].decode() for one in consumers)
            found += [f"{part}: {name}" for name in names if name != _WAITING]
    return found


def _groups(client: redis.Redis, stream: str) -> Iterable[str]:
    if not client.exists(stream):
        return ()
    return [group["name"].decode() for group in client.xinfo_groups(stream)]
