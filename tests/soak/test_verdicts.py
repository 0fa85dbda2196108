"""Each verdict of a soak on made-up facts: what it must find, and what it must let pass."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from lukhas_redis.bus_models import BusStatus, GroupStatus
from lukhas_redis.testing import ServerBinary
from tests.faults.bus_worker import ECHO, WORK
from tests.soak import __main__ as command
from tests.soak import verdicts
from tests.soak.judging import Left, wrongs_of
from tests.soak.plan import COUNT_EVERY, EARLY, ECHO_EVERY, ECHOED, OUTBOX, SEEN, Load, Part, part_named
from tests.soak.sampling import Sample
from tests.soak.steadiness import BOUNDS, MB, growth_of
from tests.soak.verdicts import Verdict

PART = Part(seed=1, producer=0, lane=0, round=0, length=60)
LOOSE = Part(seed=1, producer=0, lane=3, round=0, length=60)
COUNTS = dict.fromkeys(("dead", "lost", "healed"), 0)


def left_by(part: Part, **changes: Any) -> Left:
    """What a part leaves when all is well, changed."""
    calm = [number for number in part.numbers() if number not in part.poisoned]
    log = {SEEN: calm + part.poisoned, ECHOED: part.numbers(ECHO_EVERY)[::-1], OUTBOX: part.outbox, EARLY: []}
    log |= {name: value for name, value in changes.items() if name in log}
    return Left(log, changes.get("counted", len(part.numbers(COUNT_EVERY))), changes.get("hops", part.handoffs))


@pytest.mark.parametrize("part", [PART, LOOSE], ids=["ordered", "loose"])
def test_a_part_as_planned_has_nothing_wrong(part: Part) -> None:
    """Poisoned events come out of order, those of the other group in any."""
    assert part.poisoned
    assert wrongs_of(part, left_by(part)) == []


@pytest.mark.parametrize(
    "kind, changes",
    [
        ("lost", {SEEN: PART.numbers()[:-1]}),
        ("lost", {ECHOED: PART.numbers(ECHO_EVERY)[1:]}),
        ("lost", {OUTBOX: PART.outbox[1:]}),
        ("double", {ECHOED: [*PART.numbers(ECHO_EVERY), 5]}),
        ("double", {ECHOED: [*PART.numbers(ECHO_EVERY), 6]}),
        ("double", {OUTBOX: [*PART.outbox, PART.outbox[-1]]}),
        ("order", {SEEN: PART.numbers()[::-1]}),
        ("early", {EARLY: [3]}),
        ("other", {"counted": 19}),
        ("other", {"hops": 7}),
    ],
)
def test_what_is_wrong_with_a_part_is_found(kind: str, changes: dict[str, Any]) -> None:
    """Each fault by its own kind, and nothing else."""
    assert {one.kind for one in wrongs_of(PART, left_by(PART, **changes))} == {kind}


def test_a_plan_is_the_same_everywhere() -> None:
    """By name as by number; another seed makes another plan and other contexts."""
    load = Load(seed=1, events=60)
    assert part_named(load, PART.name) == PART
    assert part_named(load, PART.name).planned == PART.planned
    other = part_named(Load(seed=2, events=60), PART.name)
    assert other.planned != PART.planned
    assert other.log != PART.log


# -- the bus's books ---------------------------------------------------------------------------------------------


def status_of(**changes: Any) -> BusStatus:
    """A bus that has done all that `PART` asks for, changed."""
    done = {WORK: PART.length, ECHO: len(PART.numbers(ECHO_EVERY))}
    groups = tuple(
        GroupStatus(
            name, changes.get("lag", 0), changes.get("pending", 0), 0, 0, {}, {**COUNTS, "done": count, **changes}
        )
        for name, count in done.items()
    )
    return BusStatus(
        "t", {}, {}, changes.get("delayed", 0), changes.get("dead", 0), changes.get("dead_dropped", 0), groups
    )


@pytest.mark.parametrize(
    "name, changes",
    [
        ("done", {"done": 59}),
        ("drained", {"lag": 1}),
        ("drained", {"pending": 1}),
        ("drained", {"delayed": 1}),
        ("drained", {"dead": 1}),
        ("losses", {"lost": 1}),
        ("losses", {"healed": 1}),
        ("losses", {"dead_dropped": 1}),
    ],
)
def test_books_that_do_not_agree_are_found(name: str, changes: dict[str, int]) -> None:
    """One verdict for each."""
    assert [one.name for one in verdicts.books(status_of(), [PART]) if not one.holds] == []
    assert [one.name for one in verdicts.books(status_of(**changes), [PART]) if not one.holds] == [name]


def test_dead_letters_that_were_not_planned_are_found() -> None:
    """Too few, or one that was no poison."""
    planned = len(PART.poisoned)
    assert verdicts.dead_letters(planned, [], [PART]).holds
    assert not verdicts.dead_letters(planned - 1, [], [PART]).holds
    assert not verdicts.dead_letters(planned, ["work.todo part-0-0-0 3"], [PART]).holds


def test_a_soak_without_harm_does_not_pass() -> None:
    """Both kinds are needed."""
    assert verdicts.harm(1, 1).holds
    assert not verdicts.harm(0, 1).holds
    assert not verdicts.harm(1, 0).holds


# -- growth ------------------------------------------------------------------------------------------------------


def samples_of(growth: float, seconds: int = 600) -> list[Sample]:
    """One a second; everything begins at 10 MB and grows by so many MB a minute."""
    names = [one.name for one in fields(Sample) if one.name != "at"]
    return [Sample(at=at, **dict.fromkeys(names, 10 * MB + growth * MB * at / 60)) for at in range(seconds)]  # type: ignore[arg-type]


def test_growth_is_found_and_its_slope_told() -> None:
    """5 of 12 MB in five minutes are too much for every bound; a level is fine; what is too short is not judged."""
    grown = [growth_of(bound, samples_of(1.0)) for bound in BOUNDS]
    assert not any(one.steady for one in grown)
    assert grown[0].per_minute == pytest.approx(1.0)
    assert "+1.000 a minute" in str(grown[0])
    assert all(growth_of(bound, samples_of(0.0)).steady for bound in BOUNDS)
    short = growth_of(BOUNDS[0], samples_of(10.0, seconds=100))
    assert short.steady
    assert "not judged" in str(short)


# -- the command -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("holds", [True, False])
def test_the_exit_code_is_1_when_a_verdict_fails(holds: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever the other verdicts say."""
    asked: list[Load] = []

    def soak(load: Load, binary: ServerBinary, folder: Path) -> list[Verdict]:
        asked.append(load)
        return [Verdict("a", True, ""), Verdict("b", holds, ""), Verdict("c", True, "")]

    monkeypatch.setattr(command, "soak", soak)
    assert command.main(["--minutes", "1", "--seed", "5", "--report", str(tmp_path)]) == int(not holds)
    assert (asked[0].minutes, asked[0].seed) == (1.0, 5)


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2."""
    assert command.main(["--server", "nothing-1"]) == 2
    assert "no server 'nothing-1'" in capsys.readouterr().out
