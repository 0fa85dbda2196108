"""Random calls of every script against damaged and undamaged data: what is refused changed nothing.

What belongs here: the promise that holds whatever is called with whatever, and that accounts add up where nobody
damaged them. What does not: what else a script does when it succeeds.
Invariant: the whole shard is compared, before and after: type, content, order, deadline, stream ids, groups.
"""

from __future__ import annotations

import os
from collections import Counter
from random import SystemRandom

import pytest
import redis

from lukhas_redis.calls import Refused
from lukhas_redis.testing import Dump
from tests.fix_hypothesis import NIGHTLY
from tests.lua.accounts import miscounted, wrong_accounts
from tests.lua.fuzzing import SERVER_REFUSALS, changed, memory
from tests.lua.mischief import Attempt, Mischief, scripts_of_contexts
from tests.lua.shard import Shard

EPISODE = 10
CALLS = 20_000 if NIGHTLY else 2_000
SEED = int(os.environ.get("LUKHAS_FUZZ_SEED") or SystemRandom().randrange(10**9))
# Theirs is not to obey the mode: they give and change it.
OUTSIDE_MODES = {"open", "set_flag"}
NOTHING_DONE = {b"PURGE", b"VICTIMS", b"SESSION", b"LIVE", b"LOOK", b"FOLD"}
OFTEN = {"WRONGTYPE", "SESSION", "LIVE", "LKABSENT", "LKARGUMENT", "LKCONFLICT", "LKCORRUPT", "LKPAUSED", "LKSTAGE"}
OFTEN |= {"LOOK", "FOLD", "LKLEASED", "LKFENCED", "folded"}
SELDOM = {"VICTIMS", "LKFULL", "LKREUSED", "LKOWNER", "LKSHARDS", "LKRESET"}


@pytest.mark.slow
@pytest.mark.xdist_group("lua-fuzz")
def test_what_is_refused_or_a_dry_run_changes_nothing(shard: Shard) -> None:
    """No refusal, no error, no dry run and no request to call again changes a single key, whatever was there before.

    A success is counted once, and where nothing was damaged it leaves accounts that add up.
    """
    mischief = Mischief(shard, SEED)
    outcomes: Counter[str] = Counter()
    for number in range(CALLS):
        if number % EPISODE == 0:
            mischief.episode()
        attempt = mischief.attempt()
        if mischief.random.random() < 0.4:
            mischief.damage(attempt)
        mode = _mode(shard, attempt)
        before = shard.dump()
        with memory(shard, is_full=mischief.random.random() < 0.02):
            outcome, may_change = _run(shard, attempt, mode=mode)
        outcomes[f"{attempt.script.name} {outcome}"] += 1
        lines = _wrong(shard, mischief, attempt, before) if may_change else changed(shard, before)
        assert not lines, f"LUKHAS_FUZZ_SEED={SEED}, call {number}: {outcome}\n{attempt}\n" + "\n".join(lines)
    _reached_everything(outcomes)


def _wrong(shard: Shard, mischief: Mischief, attempt: Attempt, before: Dump) -> list[str]:
    """What a success left wrong: its own count, and, where nobody has damaged anything, any account."""
    found = miscounted(shard, before, attempt.script.name) if attempt.is_plain else []
    return [*found, *wrong_accounts(shard)] if mischief.is_clean else found


def _mode(shard: Shard, attempt: Attempt) -> str:
    """The mode the script will find, where it looks."""
    flags = attempt.key("flags")
    found = shard.client.hget(flags, "mode") if flags and shard.client.type(flags) == b"hash" else None
    return found.decode("latin-1") if isinstance(found, bytes) else str(attempt.args["mode"])


def _run(shard: Shard, attempt: Attempt, *, mode: str) -> tuple[str, bool]:
    """What came of the call, and whether it may have changed something."""
    script = attempt.script
    reply = shard.tried(script, attempt.words)
    if isinstance(reply, Refused):
        assert reply.word in script.errors, f"LUKHAS_FUZZ_SEED={SEED}: {reply} is not in the header\n{attempt}"
        return reply.word, False
    if isinstance(reply, redis.ResponseError):
        assert str(reply).startswith(SERVER_REFUSALS), f"LUKHAS_FUZZ_SEED={SEED}: {reply}\n{attempt}"
        return str(reply).split()[0], False
    word = reply[0] if reply else None
    name = word.decode("latin-1") if word in {*NOTHING_DONE, b"OK", b"AGAIN"} else "answer"
    if script.name == "fold":
        return ("folded", True) if reply[2] == b"1" else ("OK", False)
    return name, not (word in NOTHING_DONE or script.reads_only or _must_be_dry(attempt, mode))


def _must_be_dry(attempt: Attempt, mode: str) -> bool:
    own = "dry" in attempt.script.arg_names and str(attempt.args["dry"]) == "1"
    return own or (mode == "dry_run" and attempt.script.name not in OUTSIDE_MODES)


def _reached_everything(outcomes: Counter[str]) -> None:
    """A fuzz that only ever meets refusals proves little: every script succeeded, and many refusals were met."""
    good = {pair.split()[0] for pair in outcomes if pair.split()[1] in ("OK", "answer", "folded")}
    assert good == set(scripts_of_contexts()), outcomes
    words = {pair.split()[1] for pair in outcomes}
    assert words >= OFTEN | (SELDOM if NIGHTLY else set()), outcomes
