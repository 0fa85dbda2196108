"""Random calls of every script of the bus against damaged and undamaged data: what is refused changed nothing.

What belongs here: the promise that holds whatever is called with whatever. What does not: what a script does when it
succeeds. Invariant: the whole shard is compared, before and after: type, content, order, deadline, stream ids, groups,
consumers, pending entries.
"""

from __future__ import annotations

import os
from collections import Counter
from random import SystemRandom
from typing import Any

import pytest
import redis

from lukhas_redis.calls import Refused
from tests.fix_hypothesis import NIGHTLY
from tests.lua.bus_mischief import BusMischief, bus_scripts
from tests.lua.fuzzing import SERVER_REFUSALS, changed, memory
from tests.lua.mischief import Attempt
from tests.lua.shard import Shard

EPISODE = 10
CALLS = 30_000 if NIGHTLY else 1_500
SEED = int(os.environ.get("LUKHAS_FUZZ_SEED") or SystemRandom().randrange(10**9))
NOTHING_DONE = {b"DRY", b"PAUSED", b"NOGROUP", b"TRIM", b"STEP", b"FENCED", b"GONE"}
MOST = {"emit", "join", "claim", "ack", "hold", "commit", "status"}
OFTEN = {"WRONGTYPE", "LKARGUMENT", "LKCORRUPT", "NOGROUP", "GONE"}
SELDOM = {
    "STEP",
    "FENCED",
    "RETRY",
    "LKPAUSED",
    "LKPENDING",
    "LKBACKLOG",
    "LKPAYLOAD",
    "LKREUSED",
    "LKCONFLICT",
    "DRY",
    "PAUSED",
    "TRIM",
    "DEAD",
}
# An id beyond what a server counts to is its own to refuse.
REFUSALS = (*SERVER_REFUSALS, "Invalid stream ID")


@pytest.mark.slow
@pytest.mark.xdist_group("lua-fuzz")
def test_what_is_refused_or_a_dry_run_changes_nothing(shard: Shard) -> None:
    """No refusal, no error, no dry run and no request to call again changes a single key, whatever was there before."""
    mischief = BusMischief(shard, SEED)
    outcomes: Counter[str] = Counter()
    for number in range(CALLS):
        if number % EPISODE == 0:
            mischief.episode()
        attempt = mischief.attempt()
        if mischief.random.random() < 0.4:
            mischief.damage(attempt)
        dry = _is_dry(shard, attempt)
        before = shard.dump()
        with memory(shard, is_full=mischief.random.random() < 0.02):
            reply = shard.tried(attempt.script, attempt.words)
        where = f"LUKHAS_FUZZ_SEED={SEED}, call {number}: {reply}\n{attempt}"
        outcome, may_change = _judged(attempt, reply, where)
        outcomes[f"{attempt.script.name} {outcome}"] += 1
        if may_change and not dry:
            continue
        lines = changed(shard, before)
        assert not lines, where + "\n" + "\n".join(lines)
    _reached_everything(outcomes)


def _is_dry(shard: Shard, attempt: Attempt) -> bool:
    """Whether the call, or the tenant by then, is in dry run."""
    flags = attempt.key("flags")
    found = shard.client.hget(flags, "mode") if flags and shard.client.type(flags) == b"hash" else None
    mode = found.decode("latin-1") if isinstance(found, bytes) else str(attempt.args["mode"])
    return "dry" in attempt.script.arg_names and (str(attempt.args["dry"]) == "1" or mode == "dry_run")


def _judged(attempt: Attempt, reply: Any, where: str) -> tuple[str, bool]:
    """What came of the call, and whether it may have changed something."""
    script = attempt.script
    if isinstance(reply, Refused):
        assert reply.word in script.errors, f"not in the header: {where}"
        return reply.word, False
    if isinstance(reply, redis.ResponseError):
        assert str(reply).startswith(REFUSALS), where
        return str(reply).split()[0], False
    word = reply[0]
    if word == b"STEP" and reply[2][0] == b"AGAIN":
        # What it evicted to begin with stays evicted.
        return "AGAIN", True
    return word.decode("latin-1") if script.name != "status" else "OK", not (word in NOTHING_DONE or script.reads_only)


def _reached_everything(outcomes: Counter[str]) -> None:
    """A fuzz that only ever meets refusals proves little: every script succeeded, and many refusals were met."""
    good = {pair.split()[0] for pair in outcomes if pair.split()[1] in ("OK", "RETRY", "DEAD")}
    assert good >= (set(bus_scripts()) if NIGHTLY else MOST), outcomes
    assert {pair.split()[1] for pair in outcomes} >= OFTEN | (SELDOM if NIGHTLY else set()), outcomes
