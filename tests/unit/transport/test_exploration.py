"""The engine against simulated servers: thousands of seeded interleavings of faults, in virtual time.

What belongs here: what must hold whatever happens. What does not: single rules (`test_engine`).
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from lukhas_redis.calls import Call, Refused
from lukhas_redis.errors import AccessDenied, LukhasRedisError, OutcomeUnknown, OutOfMemory, Unavailable
from lukhas_redis.transport.conduct import conduct
from tests.unit.transport.scripts_for_tests import asking, asking_all, count_call, take_call
from tests.unit.transport.simulated import Simulation

SEEDS = 20_000 if os.environ.get("LUKHAS_NIGHTLY") else 2_000
SURELY_NOT = (Unavailable, OutOfMemory, AccessDenied)


def _outcome(simulation: Simulation, call: Call) -> Any:
    try:
        return simulation.drive(conduct(asking(call), simulation.world))
    except (LukhasRedisError, Refused) as error:
        return error


def test_an_error_that_says_not_applied_is_true_and_an_effect_happens_at_most_once() -> None:
    """Whatever faults befall a call with a request id: answered means once, unavailable never, unknown at most once."""
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        simulation = Simulation(seed)
        call = count_call("x", f"id{seed}")
        result = _outcome(simulation, call)
        runs = simulation.runs[f"t:{{x}}:done:id{seed}"]
        seen[type(result).__name__] += 1
        if isinstance(result, int):
            assert runs == 1, f"seed {seed}: answered {result} after {runs} executions"
        elif isinstance(result, SURELY_NOT):
            assert runs == 0, f"seed {seed}: {result!r} after {runs} executions"
        else:
            assert isinstance(result, OutcomeUnknown), f"seed {seed}: {result!r}"
            assert runs <= 1, f"seed {seed}: {runs} executions"
            assert result.fields["request_id"] == f"id{seed}"
    # The exploration explores: every kind of end was met.
    assert set(seen) >= {"int", "Unavailable", "OutcomeUnknown", "OutOfMemory", "AccessDenied"}, seen


def test_a_call_without_request_id_is_never_sent_again_after_a_lost_reply() -> None:
    """Without a request id a lost reply ends the call at once, and the staged payload was taken at most once."""
    unknown = 0
    for seed in range(SEEDS):
        simulation = Simulation(seed)
        result = _outcome(simulation, take_call("x", b"payload", request_id=None))
        taken = sum(simulation.taken.values())
        assert taken <= 1, f"seed {seed}: taken {taken} times"
        if isinstance(result, SURELY_NOT):
            assert taken == 0, f"seed {seed}: {result!r}, yet taken"
        if isinstance(result, int):
            assert taken == 1, f"seed {seed}"
        unknown += isinstance(result, OutcomeUnknown)
    assert unknown


def test_a_call_ends_by_its_deadline() -> None:
    """With nothing but faults every call ends, at the latest one exchange after its deadline."""
    for seed in range(SEEDS // 4):
        simulation = Simulation(seed, faults=1.0, ending=0.0)
        simulation.known = {node: set() for node in simulation.known}
        _outcome(simulation, count_call("x", "r"))
        assert simulation.now <= simulation.world.policy.call_timeout_seconds + 0.1, f"seed {seed}"


@pytest.mark.parametrize("size", [2, 7])
def test_calls_in_lockstep_do_not_disturb_each_other(size: int) -> None:
    """Several calls at once: each is answered, refused or unknown on its own, under the same rules."""
    for seed in range(SEEDS // 4):
        simulation = Simulation(seed, faults=0.4)
        calls = [count_call("x", f"id{place}") for place in range(size)]
        results = simulation.drive(conduct(asking_all(*calls), simulation.world))
        assert len(results) == size
        for place, result in enumerate(results):
            runs = simulation.runs[f"t:{{x}}:done:id{place}"]
            if isinstance(result, int):
                assert runs == 1, f"seed {seed}"
            elif isinstance(result, SURELY_NOT):
                assert runs == 0, f"seed {seed}: {result!r}"
            else:
                assert isinstance(result, OutcomeUnknown), f"seed {seed}: {result!r}"


def test_units_are_always_sent_whole() -> None:
    """The script of a staged call never leaves without the SET before it and the UNLINK after it."""
    for seed in range(SEEDS // 4):
        simulation = Simulation(seed)
        _outcome(simulation, take_call("x", b"payload"))
        for exchange in simulation.exchanges:
            names = [command[0] for command in exchange.commands if command[0] != "ASKING"]
            if "EVALSHA" in names:
                assert names == ["SET", "EVALSHA", "UNLINK"], f"seed {seed}"
                assert exchange.own_connection
