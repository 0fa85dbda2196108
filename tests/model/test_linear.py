"""The checker of histories: it accepts whatever a context can have answered, and nothing else.

What belongs here: made-up histories, right ones by simulation and wrong ones by hand. What does not: real ones
(`tests/faults/test_store_linear.py`).
Invariant: the simulation shares no code with the model that it tests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fix_hypothesis import NIGHTLY
from tests.model.linear import (
    NEVER,
    Absent,
    Conflict,
    Kind,
    Lack,
    Operation,
    Outcome,
    Result,
    Saw,
    Wrote,
    assert_linearizable,
    broken_promises,
    check,
)

KINDS = [Kind.APPEND] * 8 + [Kind.RESTORE] * 7 + [Kind.PATCH] * 3 + [Kind.PRESERVE, Kind.HANDOFF] * 2 + [Kind.DROP]
seeds = st.integers(0, 2**32)


@dataclass
class Simulation:
    """One context that takes operations one after the other, and the history its clients would have recorded."""

    history: list[Operation] = field(default_factory=list)
    now: float = 0.0
    incarnation: str = ""
    version: int = 0
    items: list[str] = field(default_factory=list)
    scalars: dict[str, int] = field(default_factory=dict)
    gone: str = "never"
    made: int = 0

    def fresh(self) -> str:
        """A name nobody has used."""
        self.made += 1
        return f"i{self.made}"

    def saw(self) -> Saw:
        """What a restore is answered now."""
        return Saw(self.incarnation, self.version, tuple(self.items), frozenset(self.scalars.items()))

    def do(
        self, kind: Kind, *, early: float = 0.1, late: float = 0.1, lack: Lack | None = None, **given: Any
    ) -> Operation:
        """Carry an operation out (unless it surely was not) and record what its caller is told."""
        self.now += 1.0
        if kind in (Kind.APPEND, Kind.PRESERVE):
            given.setdefault("items", (self.fresh(),))
        if kind is Kind.PATCH:
            given.setdefault("scalars", (("k", self.made),))
            self.made += 1
        op = Operation("c", kind, self.now - early, self.now + late, Lack.SURELY_NOT, **given)
        result = lack if lack is Lack.SURELY_NOT else self._apply(op)
        ended = NEVER if lack is Lack.UNKNOWN else op.ended
        self.history.append(replace(op, ended=ended, result=lack or result))
        return self.history[-1]

    def told(self, kind: Kind, result: Result, **given: Any) -> Operation:
        """Record an answer without carrying anything out."""
        self.now += 1.0
        self.history.append(Operation("liar", kind, self.now - 0.1, self.now + 0.1, result, **given))
        return self.history[-1]

    def _apply(self, op: Operation) -> Result:
        if self.gone and op.kind is not Kind.PRESERVE:
            return Absent(self.gone)
        if op.kind is Kind.RESTORE:
            return self.saw()
        if op.if_version is not None and op.if_version != self.version:
            return Conflict(self.version)
        if op.kind is Kind.DROP:
            dropped, self.version, self.gone = self.version, 0, "dropped"
            return Wrote(dropped)
        if op.kind is Kind.PRESERVE:
            self.incarnation = self.fresh() if self.gone else self.incarnation
            self.gone, self.items, self.scalars = "", list(op.items), dict(op.scalars)
        if op.kind is Kind.APPEND:
            self.items += op.items
        for key, value in op.scalars if op.kind is Kind.PATCH else ():
            if value is None:
                self.scalars.pop(key, None)
            else:
                self.scalars[key] = value
        self.version += 1
        return Wrote(self.version, None if op.kind is Kind.HANDOFF else self.incarnation)


def simulated(seed: int, count: int, spread: float = 3.0, lacking: float = 0.1, *, busy: bool = False) -> Simulation:
    """A random history of `count` operations, of which about 2 x `spread` go on at any time; `busy`: of many kinds."""
    dice = random.Random(seed)
    run = Simulation()
    run.do(Kind.PRESERVE, lack=Lack.UNKNOWN if busy and dice.random() < lacking else None)
    for _ in range(count):
        given: dict[str, Any] = {"early": dice.uniform(0, spread), "late": dice.uniform(0, spread)}
        kinds = KINDS if not run.gone else [*KINDS, *[Kind.PRESERVE] * 20]
        kind = dice.choice([*Kind] if busy else kinds)
        if kind is not Kind.RESTORE and dice.random() < lacking:
            given["lack"] = dice.choice([Lack.UNKNOWN, Lack.UNKNOWN, Lack.SURELY_NOT])
            given["early"] *= dice.choice([1, 1, 10])
        if kind is Kind.PATCH:
            key = dice.choice("kmn")
            given["scalars"] = ((key, None if dice.random() < 0.2 else run.made),)
            run.made += 1
        if busy and kind in (Kind.PRESERVE, Kind.APPEND) and dice.random() < 0.1:
            given["items"] = ()
        if kind is not Kind.RESTORE and dice.random() < 0.3:
            given["if_version"] = max(0, run.version - dice.choice([0, 0, 1]))
        run.do(kind, **given)
        if dice.random() < lacking / 2:
            _never_applied(run, dice)
    return run


def _never_applied(run: Simulation, dice: random.Random) -> None:
    kind = dice.choice([Kind.APPEND, Kind.PRESERVE, Kind.HANDOFF, Kind.DROP])
    items = (run.fresh(),) if kind in (Kind.APPEND, Kind.PRESERVE) else ()
    run.history.append(Operation("c", kind, run.now - dice.uniform(0, 5), NEVER, Lack.UNKNOWN, items))


def problem(run: Simulation) -> str:
    """The explanation of a violation; fails when there is none."""
    verdict = check(run.history)
    assert verdict.outcome is Outcome.VIOLATION, verdict.outcome
    return verdict.explanation


# -- right ones ----------------------------------------------------------------------------------------------------


@given(seed=seeds, count=st.integers(0, 60), spread=st.sampled_from([0.4, 1.0, 3.0]))
def test_what_can_happen_is_accepted(seed: int, count: int, spread: float) -> None:
    """Any order of operations, each answered some time after it was called, or never."""
    run = simulated(seed, count, spread)
    verdict = check(run.history)
    assert verdict.outcome is Outcome.OK, verdict.explanation


@pytest.mark.parametrize("seed", range(6))
def test_hundreds_of_operations_are_decided_soon(seed: int) -> None:
    """Four hundred operations, six at a time, one in ten without an answer: few states are looked at."""
    run = simulated(seed, 400)
    verdict = check(run.history)
    assert verdict.outcome is Outcome.OK, verdict.explanation
    assert verdict.states < 10_000


def test_the_order_that_is_returned_proves_it() -> None:
    """It holds every answered operation once, and none before one that had ended when it was called."""
    run = simulated(1, 60)
    order = check(run.history).order
    assert {id(op) for op in run.history if not isinstance(op.result, Lack)} <= {id(op) for op in order}
    assert len({id(op) for op in order}) == len(order)
    for place, op in enumerate(order):
        assert all(op.began <= later.ended for later in order[place:])


def test_an_unknown_write_may_come_late() -> None:
    """What nobody was told about takes effect after others that were called later."""
    run = Simulation()
    run.do(Kind.PRESERVE)
    late = run.fresh()
    run.history.append(Operation("c", Kind.APPEND, run.now, NEVER, Lack.UNKNOWN, (late,)))
    run.do(Kind.APPEND)
    run.do(Kind.RESTORE)
    run.do(Kind.APPEND, items=(late,), lack=Lack.SURELY_NOT)
    run.items.append(late)
    run.version += 1
    run.do(Kind.RESTORE)
    assert check(run.history).outcome is Outcome.OK


def test_an_incarnation_nobody_was_told_of_gets_its_name_from_a_reader() -> None:
    """And keeps it: another name for the same one is a violation."""
    run = Simulation()
    made = run.do(Kind.PRESERVE, lack=Lack.UNKNOWN)
    seen = run.do(Kind.RESTORE)
    run.do(Kind.APPEND)
    assert check(run.history).outcome is Outcome.OK
    assert made.items == run.saw().items[:1]
    assert isinstance(seen.result, Saw)
    run.told(Kind.RESTORE, run.saw()._replace(incarnation="other"))
    assert "other" in problem(run)


def test_giving_up_is_no_success() -> None:
    """A search that ran out of states says so, and the assertion fails."""
    run = simulated(2, 60)
    assert check(run.history, most_states=3).outcome is Outcome.UNDECIDED
    with pytest.raises(AssertionError, match="undecided"):
        assert_linearizable({"x": run.history}, most_states=3)
    assert_linearizable({"x": run.history})


# -- the search against all orders ---------------------------------------------------------------------------------


def _can_be(run: Simulation, left: Sequence[Operation], dead: frozenset[str], names: frozenset[str]) -> bool:
    """Whether some order explains what is left, by trying each; the dumbest search there is."""
    answered = [op for op in left if not isinstance(op.result, Lack)]
    first = min((op.ended for op in answered), default=NEVER)
    return not answered or any(
        _can_follow(run, op, name, [one for one in left if one is not op], dead, names)
        for op in left
        if op.began <= first
        for name in (names if run.gone and op.kind is Kind.PRESERVE else [run.incarnation])
    )


def _can_follow(
    run: Simulation, op: Operation, name: str, rest: list[Operation], dead: frozenset[str], names: frozenset[str]
) -> bool:
    after = replace(run, items=[*run.items], scalars={**run.scalars})
    result = after._apply(op)
    if run.gone and not after.gone:
        after.incarnation = name
        result = Wrote(1, name)
        if name in dead:
            return False
    if isinstance(op.result, Wrote) and isinstance(result, Wrote) and op.result.incarnation is None:
        result = Wrote(result.version)
    if isinstance(op.result, Lack):
        fits = isinstance(result, Wrote)
    else:
        fits = result == op.result or (isinstance(result, Conflict) and op.result == Conflict())
    dead |= {run.incarnation} - {"unseen"} if after.gone else set()
    return fits and _can_be(after, rest, dead, names)


def _altered(run: Simulation, dice: random.Random) -> list[Operation]:
    """The history with one answer changed to something that looks likely."""
    history = [*run.history]
    place = dice.randrange(len(history))
    result = history[place].result
    others = [op.result for op in history if type(op.result) is type(result) and op.result != result]
    changed: Result = dice.choice([Lack.UNKNOWN, *others])
    if isinstance(result, Wrote | Saw):
        changed = dice.choice([changed, result._replace(version=result.version + dice.choice([-1, 1]))])
    if isinstance(result, Saw) and result.items and dice.random() < 0.3:
        changed = result._replace(items=dice.choice([result.items[::-1], result.items[1:], result.items[:-1]]))
    ended = NEVER if isinstance(changed, Lack) else history[place].ended
    history[place] = replace(history[place], result=changed, ended=ended)
    return history


@settings(max_examples=20_000 if NIGHTLY else 300)
@given(seed=seeds, count=st.integers(1, 6), spread=st.sampled_from([0.4, 2.0]), alters=st.booleans())
def test_the_search_agrees_with_trying_every_order(seed: int, count: int, spread: float, alters: bool) -> None:
    """Its shortcuts lose no order and find none that is not there: short histories, right and wrong."""
    dice = random.Random(seed)
    run = simulated(seed, count, spread, lacking=0.4, busy=True)
    history = _altered(run, dice) if alters else run.history
    told = [getattr(op.result, "incarnation", None) for op in history]
    names = frozenset(name for name in [*told, "unseen"] if name)
    left = [op for op in history if op.result is not Lack.SURELY_NOT]
    left = [op for op in left if op.kind is not Kind.RESTORE or op.result is not Lack.UNKNOWN]
    expected = Outcome.OK if _can_be(Simulation(), left, frozenset(), names) else Outcome.VIOLATION
    assert check(history).outcome is expected


# -- wrong ones ----------------------------------------------------------------------------------------------------

Lie = Callable[[Simulation], object]


def stale_read(run: Simulation) -> None:
    """A read that began after a write was answered does not show it."""
    before = run.saw()
    run.do(Kind.APPEND)
    run.told(Kind.RESTORE, before)


def stale_after_handoff(run: Simulation) -> None:
    """Even one that changed only the version."""
    before = run.saw()
    run.do(Kind.HANDOFF)
    run.told(Kind.RESTORE, before)


def lost_append(run: Simulation) -> None:
    """An item is missing between its neighbours."""
    run.do(Kind.APPEND)
    lost = run.do(Kind.APPEND)
    run.do(Kind.APPEND)
    saw = run.saw()
    run.told(Kind.RESTORE, saw._replace(items=tuple(item for item in saw.items if item not in lost.items)))


def duplicated_append(run: Simulation) -> None:
    """One append, twice in the list, at its own version."""
    added = run.do(Kind.APPEND)
    saw = run.saw()
    run.told(Kind.RESTORE, saw._replace(items=saw.items + added.items))


def duplicated_write(run: Simulation) -> None:
    """One append, twice in the list, as two versions."""
    added = run.do(Kind.APPEND)
    saw = run.saw()
    run.told(Kind.RESTORE, saw._replace(items=saw.items + added.items, version=saw.version + 1))


def reordered_appends(run: Simulation) -> None:
    """Two that followed each other stand the other way round."""
    run.do(Kind.APPEND)
    run.do(Kind.APPEND)
    saw = run.saw()
    run.told(Kind.RESTORE, saw._replace(items=(*saw.items[:-2], saw.items[-1], saw.items[-2])))


def version_back(run: Simulation) -> None:
    """A write is answered with a version that was there before."""
    run.do(Kind.APPEND)
    run.told(Kind.APPEND, Wrote(run.version - 1, run.incarnation), items=(run.fresh(),))


def version_read_back(run: Simulation) -> None:
    """A read shows the newest content at an older version."""
    run.do(Kind.APPEND)
    run.told(Kind.RESTORE, run.saw()._replace(version=run.version - 1))


def version_skipped(run: Simulation) -> None:
    """A write counted twice."""
    run.told(Kind.HANDOFF, Wrote(run.version + 2))


def same_version_twice(run: Simulation) -> None:
    """Two writers were told that they made the same version."""
    made = run.do(Kind.APPEND)
    run.told(Kind.APPEND, made.result, items=(run.fresh(),))


def other_incarnation(run: Simulation) -> None:
    """After drop and preserve a read shows what was there before."""
    before = run.saw()
    run.do(Kind.DROP)
    run.do(Kind.PRESERVE)
    run.told(Kind.RESTORE, before)


def other_incarnations_bytes(run: Simulation) -> None:
    """The new name and version, the old content."""
    before = run.saw()
    run.do(Kind.DROP)
    run.do(Kind.PRESERVE)
    run.told(Kind.RESTORE, run.saw()._replace(items=before.items, scalars=before.scalars))


def incarnation_reused(run: Simulation) -> None:
    """A context that was made again goes by the name of the one that was dropped."""
    name = run.incarnation
    run.do(Kind.DROP)
    run.told(Kind.PRESERVE, Wrote(1, name), items=(run.fresh(),))


def wrong_cas(run: Simulation) -> None:
    """A write for an older version was accepted."""
    run.do(Kind.APPEND)
    expected = run.version - 1
    run.told(Kind.APPEND, Wrote(run.version + 1, run.incarnation), items=(run.fresh(),), if_version=expected)


def wrong_conflict(run: Simulation) -> None:
    """A write for the newest version was refused."""
    run.told(Kind.APPEND, Conflict(), items=(run.fresh(),), if_version=run.version)


def unknown_twice(run: Simulation) -> None:
    """An append without an answer took effect, and again after the next one."""
    added = run.do(Kind.APPEND, lack=Lack.UNKNOWN)
    run.do(Kind.APPEND)
    saw = run.saw()
    run.told(Kind.RESTORE, saw._replace(items=saw.items + added.items, version=saw.version + 1))


def surely_not_applied(run: Simulation) -> None:
    """An append that was said to be without effect is there."""
    item = run.fresh()
    run.do(Kind.APPEND, items=(item,), lack=Lack.SURELY_NOT)
    saw = run.saw()
    run.told(Kind.RESTORE, saw._replace(items=(*saw.items, item), version=saw.version + 1))


def surely_not_applied_unseen(run: Simulation) -> None:
    """A handoff that was said to be without effect was counted."""
    run.do(Kind.HANDOFF, lack=Lack.SURELY_NOT)
    run.told(Kind.APPEND, Wrote(run.version + 2, run.incarnation), items=(run.fresh(),))


def acknowledged_lost(run: Simulation) -> None:
    """The server came back without the last write, and went on from there."""
    before = replace(run, history=run.history, items=[*run.items], scalars={**run.scalars})
    run.do(Kind.APPEND)
    before.now, before.made = run.now, run.made
    before.do(Kind.APPEND)
    before.do(Kind.RESTORE)


def acknowledged_preserve_lost(run: Simulation) -> None:
    """The server came back without the context."""
    run.told(Kind.RESTORE, Absent("never"))


def wrong_reason(run: Simulation) -> None:
    """What was dropped is said to be lost."""
    run.do(Kind.DROP)
    run.told(Kind.RESTORE, Absent("lost"))


def patch_lost(run: Simulation) -> None:
    """A key has the value from before."""
    run.do(Kind.PATCH, scalars=(("z", 1),))
    run.do(Kind.PATCH, scalars=(("z", 2),))
    saw = run.saw()
    run.told(Kind.RESTORE, saw._replace(scalars=saw.scalars - {("z", 2)} | {("z", 1)}))


def dropped_twice(run: Simulation) -> None:
    """Two were told that they dropped the same."""
    made = run.do(Kind.DROP)
    run.told(Kind.DROP, made.result)


LIES: list[Lie] = [
    stale_read,
    stale_after_handoff,
    lost_append,
    duplicated_append,
    duplicated_write,
    reordered_appends,
    version_back,
    version_read_back,
    version_skipped,
    same_version_twice,
    other_incarnation,
    other_incarnations_bytes,
    incarnation_reused,
    wrong_cas,
    wrong_conflict,
    unknown_twice,
    surely_not_applied,
    surely_not_applied_unseen,
    acknowledged_lost,
    acknowledged_preserve_lost,
    wrong_reason,
    patch_lost,
    dropped_twice,
]
by_name = pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)


def _planted(lie: Lie, run: Simulation) -> Simulation:
    """The lie told to a context that is there, and truths after it."""
    if run.gone:
        run.do(Kind.PRESERVE)
    run.do(Kind.APPEND)
    lie(run)
    run.do(Kind.RESTORE)
    return run


@by_name
def test_a_lie_is_found(lie: Lie) -> None:
    """In a short history without anything else in it, with the answer that is wrong named first."""
    run = Simulation()
    run.do(Kind.PRESERVE)
    explanation = problem(_planted(lie, run))
    assert explanation.startswith("no order explains the answer of\n  [")


@by_name
@settings(max_examples=1000 if NIGHTLY else 25)
@given(seed=seeds, count=st.integers(0, 40))
def test_a_lie_is_found_among_truths(lie: Lie, seed: int, count: int) -> None:
    """Behind a long history, some of whose writes have no answer and may still come."""
    # These are no lies where another write may still come.
    is_possible = lie in (version_skipped, surely_not_applied_unseen, dropped_twice)
    run = simulated(seed, count, lacking=0 if is_possible else 0.1)
    run.now += 5
    problem(_planted(lie, run))


def test_the_explanation_names_the_first_wrong_answer() -> None:
    """Not the last one, and it shows what the answer would have been."""
    run = simulated(3, 30, lacking=0)
    if run.gone:
        run.do(Kind.PRESERVE)
    run.now += 5
    before = run.saw()
    run.do(Kind.APPEND)
    lie = run.told(Kind.RESTORE, before)
    for _ in range(10):
        run.do(Kind.APPEND)
        run.do(Kind.RESTORE)
    explanation = problem(run)
    assert explanation.splitlines()[1] == f"  {lie}"
    assert f"where it would be {run.incarnation} v{before.version + 1} " in explanation


# -- across a failover ---------------------------------------------------------------------------------------------


@given(seed=seeds, count=st.integers(0, 40), replicated=st.booleans())
def test_a_right_history_keeps_its_promises(seed: int, count: int, replicated: bool) -> None:
    """What is linearizable breaks none of the weaker promises either, whatever was replicated."""
    run = simulated(seed, count)
    assert broken_promises([replace(op, replicated=replicated) for op in run.history]) == []


def _replicated(*kinds: Kind) -> Simulation:
    run = Simulation()
    for kind in (Kind.PRESERVE, *kinds):
        run.do(kind, replicated=True)
    return run


def test_a_failover_may_lose_what_was_not_replicated() -> None:
    """Reads go back to before it, and its version is given away again."""
    run = _replicated(Kind.APPEND)
    before = run.saw()
    run.do(Kind.APPEND)
    run.told(Kind.RESTORE, before)
    run.told(Kind.APPEND, Wrote(before.version + 1, before.incarnation), items=(item := run.fresh(),))
    run.told(Kind.RESTORE, before._replace(items=(*before.items, item), version=before.version + 1))
    assert broken_promises(run.history) == []
    assert check(run.history).outcome is Outcome.VIOLATION


def test_a_replicated_write_is_kept() -> None:
    """Its item, its version, its incarnation, and that it dropped one."""
    run = _replicated()
    first = run.saw()
    run.do(Kind.APPEND, replicated=True)
    saw = run.saw()
    lies: dict[str, tuple[Kind, Result]] = {
        "a replicated version is gone": (Kind.RESTORE, first),
        "a replicated item is gone": (Kind.RESTORE, saw._replace(items=first.items)),
        "gone with its incarnation": (Kind.RESTORE, saw._replace(incarnation="other")),
        "a replicated write is gone": (Kind.RESTORE, Absent("never")),
    }
    for expected, (kind, result) in lies.items():
        _breaks(run, expected, kind, result)
    run.do(Kind.DROP, replicated=True)
    run.do(Kind.PRESERVE)
    _breaks(run, "a dropped incarnation is back", Kind.RESTORE, saw)


def test_a_replicated_version_is_made_once() -> None:
    """Two primaries that both confirm are a split brain."""
    run = _replicated(Kind.APPEND)
    again = run.history[-1].result
    run.told(Kind.APPEND, again, items=(run.fresh(),), replicated=True)
    assert "two writes made the same version" in broken_promises(run.history)[0]


def test_what_no_failover_excuses() -> None:
    """An item twice, of another incarnation, out of order, of nobody, or one that was surely not added."""
    run = _replicated(Kind.DROP)
    old = run.history[0].items[0]
    run.do(Kind.PRESERVE)
    run.do(Kind.APPEND)
    denied = run.do(Kind.APPEND, lack=Lack.SURELY_NOT).items[0]
    saw = run.saw()
    one, two = saw.items
    lies = {
        "items stand twice": (one, two, two),
        "belongs to another incarnation": (one, two, old),
        "stands behind what was added later": (two, one),
        "nobody was added by nobody": (one, two, "nobody"),
        f"{denied} was added by nobody": (one, two, denied),
    }
    for expected, items in lies.items():
        _breaks(run, expected, Kind.RESTORE, saw._replace(items=items))


def _breaks(run: Simulation, expected: str, kind: Kind, result: Result) -> None:
    assert broken_promises(run.history) == []
    run.told(kind, result)
    assert any(expected in sentence for sentence in broken_promises(run.history)), broken_promises(run.history)
    run.history.pop()
