"""After any sequence of calls as clients make them, every account is exact.

What belongs here: undamaged data and plausible calls. What does not: damage (`test_fuzz`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from random import Random, SystemRandom
from typing import Any

import pytest

from lukhas_redis.calls import Refused
from tests.fix_hypothesis import NIGHTLY
from tests.lua.accounts import wrong_accounts
from tests.lua.shard import Shard, context_id

SEED = SystemRandom().randrange(10**9)
RUNS, CALLS = (40, 100) if NIGHTLY else (8, 40)
ENTRIES, BYTES = 6, 400
IDS = [context_id(number) for number in range(9)]


@contextmanager
def expected_refusals() -> Generator[None]:
    """Nothing there, no room, somebody else's: what undamaged data may answer."""
    try:
        yield
    except Refused as refused:
        if refused.word not in ("LKABSENT", "LKFULL", "LKOWNER"):
            raise


def store(shard: Shard, **args: Any) -> Any:
    """Preserve as a client does: purge when told to, declare the victims named, repeat."""
    more: list[str] = []
    for _ in range(50):
        reply = shard.call("preserve", more=more, **args)
        if reply[0] == b"OK":
            return reply
        if reply[0] == b"PURGE":
            shard.call("sweep", most=2)
        more = [one.decode() for one in reply[1:]] if reply[0] == b"VICTIMS" else []
    raise AssertionError("fifty calls were not enough to make room")


def one_call(shard: Shard, random: Random) -> None:
    """Something a client or an operator might do next."""
    one, kind = random.choice(IDS), random.choice(["chat", "job"])
    limits: dict[str, Any] = {
        "max_entries": ENTRIES,
        "max_bytes": BYTES,
        "max_type": 4,
        "policy": random.choice(POLICIES),
    }
    what = random.randrange(10)
    if what < 5:
        payload = b"x" * random.randint(1, 120)
        store(shard, id=one, type=kind, payload=payload, ttl_ms=random.choice([60_000, 900_000]), **limits)
    elif what == 5:
        shard.call("handoff", id=one, sid="session-1", ttl_ms=random.choice([0, 90_000]))
    elif what == 6:
        shard.call("pin", id=one, pinned=random.randrange(2))
    elif what == 7:
        shard.call("extend", id=one, ttl_ms=random.choice([1, 1_000_000]))
    elif what == 8:
        shard.call(random.choice(["drop", "touch", "restore"]), id=one, policy="evict_lru", interval_ms=0)
    else:
        shard.expire(IDS.index(one)) if shard.client.exists(shard.keys.ctx(one)) else shard.call("sweep", most=2)


POLICIES = ("reject", "evict_oldest", "evict_lru")


@pytest.mark.parametrize("run", range(RUNS))
def test_the_accounts_are_exact_after_every_call(shard: Shard, run: int) -> None:
    """Totals, shares, index, order, sizes, sessions and deadlines agree after every call, and limits are kept."""
    random = Random(SEED + run)
    for number in range(CALLS):
        with expected_refusals():
            one_call(shard, random)
        wrong = wrong_accounts(shard)
        usage = shard.usage()
        assert not wrong, f"seed {SEED}, run {run}, call {number}: {wrong}"
        assert usage.get("entries", 0) <= ENTRIES
        assert usage.get("bytes", 0) <= BYTES
        assert usage.get("entries:chat", 0) <= 4
        assert shard.call("recount", dry=1) == [b"0", b"0"]


def test_a_wrong_account_is_noticed(shard: Shard) -> None:
    """The check above fails for each account that is off by one, so that it can be trusted when it is silent."""
    keys = shard.keys
    wrongs: list[Callable[[], Any]] = [
        lambda: shard.client.hincrby(keys.usage, "bytes", 1),
        lambda: shard.client.hincrby(keys.usage, "entries", 1),
        lambda: shard.client.hincrby(keys.usage, "entries:conversation", 1),
        lambda: shard.client.hset(keys.sizes, context_id(2), "3 conversation"),
        lambda: shard.client.zadd(keys.index, {context_id(1): shard.now_ms() + 99_999}),
        lambda: shard.client.zrem(keys.order, context_id(1)),
        lambda: shard.client.append(keys.body(context_id(1)), b"!"),
        lambda: shard.client.pexpire(keys.body(context_id(1)), 99_999),
        lambda: shard.client.zrem(keys.session("session-1"), context_id(1)),
    ]
    for wrong in wrongs:
        shard.client.delete(*shard.dump())
        shard.open()
        shard.preserve(1, marker="")
        assert not wrong_accounts(shard)
        wrong()
        assert wrong_accounts(shard)
