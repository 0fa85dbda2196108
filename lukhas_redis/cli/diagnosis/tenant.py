"""A tenant: mode, room, backlog, keys without a deadline, accounts.

What belongs here: judging what the store tells of the tenant. What does not: servers (`server`).
Invariant: bounded work, but for `accounts`, which looks at every context once.
"""

from __future__ import annotations

from collections.abc import Iterator

from lukhas_redis.calls import Op, Read
from lukhas_redis.cli.diagnosis.finding import Finding, Status
from lukhas_redis.keys import ShardKeys
from lukhas_redis.models import Stats
from lukhas_redis.ops.space import Space, discover
from lukhas_redis.shell import mint
from lukhas_redis.store import ContextStore
from lukhas_redis.transport.answers import text

BACKLOG = 1000
SAMPLE = 500
_SCANS = 20
_MORTAL = ("ctx:", "body:", "segs:", "hops:", "log:", "session:", "req:", "stage:")


def tenant(store: ContextStore) -> Iterator[Finding]:
    """Everything about the tenant."""
    stats = store.stats()
    yield _mode(stats)
    yield pressure(stats)
    yield backlog(stats)
    yield _deadlines(store.run(_sample(Space(store.settings, mint, store.tenant)), "doctor"))
    yield _accounts(store)


def _mode(stats: Stats) -> Finding:
    if stats.mode == "live":
        return Finding("mode", "ok", f"tenant {stats.tenant} is live")
    advice = "`lukhas flags audit` says who and why; `lukhas flags set mode live` resumes"
    return Finding("mode", "warn", f"tenant {stats.tenant} is in mode {stats.mode}", advice)


def pressure(stats: Stats) -> Finding:
    """How full the tenant is."""
    found = f"{stats.pressure:.2f}: {stats.live} of {stats.max_entries} contexts, policy {stats.policy}"
    if not stats.alert:
        return Finding("pressure", "ok", found)
    status: Status = "fail" if stats.pressure >= 1 and stats.policy == "reject" else "warn"
    return Finding("pressure", status, found, "drop contexts, shorten ttl, or `lukhas flags set max_entries N`")


def backlog(stats: Stats) -> Finding:
    """How many expired contexts wait to be taken out of the accounts."""
    found = f"{stats.expired} expired contexts still in the accounts"
    if stats.expired <= BACKLOG:
        return Finding("backlog", "ok", found)
    return Finding("backlog", "warn", found, "lukhas sweep; workers do it with their writes, so nobody writes?")


def _sample(space: Space) -> Op[tuple[int, list[str]]]:
    """How many keys that must expire were looked at, and those of them that do not."""
    yield from discover(space)
    seen, immortal = 0, []
    for keys in space.all_shards():
        names = yield from _some_keys(keys)
        if not names:
            continue
        deadlines = yield tuple(Read(keys.tag, ("PEXPIRETIME", name)) for name in names)
        seen += len(names)
        immortal += [name for name, deadline in zip(names, deadlines, strict=True) if deadline == -1]
    return seen, immortal


def _some_keys(keys: ShardKeys) -> Op[list[str]]:
    cursor, names = b"0", dict[str, None]()
    for _ in range(_SCANS):
        cursor, found = yield Read(keys.tag, ("SCAN", cursor, "MATCH", f"{keys.base}*", "COUNT", SAMPLE))
        shown = (text(name) for name in found)
        names.update((name, None) for name in shown if name[len(keys.base) :].startswith(_MORTAL))
        if int(cursor) == 0 or len(names) >= SAMPLE:
            break
    return list(names)[:SAMPLE]


def _deadlines(sample: tuple[int, list[str]]) -> Finding:
    seen, immortal = sample
    if not immortal:
        return Finding("deadlines", "ok", f"{seen} keys looked at, all expire")
    found = f"{len(immortal)} of {seen} keys never expire, such as {immortal[0]}"
    return Finding("deadlines", "fail", found, "somebody used PERSIST or SET: `lukhas repair`, or delete these keys")


def _accounts(store: ContextStore) -> Finding:
    checked = store.check()
    if checked.sound:
        return Finding("accounts", "ok", "sound")
    kinds = sorted({fault.fault for fault in checked.faults})
    found = f"{len(checked.faults)} faults ({', '.join(kinds) or 'totals'}), entries off by {checked.entries_off}"
    return Finding("accounts", "fail", found, "lukhas check lists them, lukhas repair puts them right")
