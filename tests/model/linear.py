"""Histories of one context: whether what the clients were answered can have happened in some order.

What belongs here: what a history is, the sequential model of one context, the search for an order (Wing and Gong, with
Lowe's memory of what was tried), the weaker promises that hold across a failover. What does not: recording (the tests).
Invariant: `OK` comes with an order that proves it, `VIOLATION` only after every order was excluded, and a search that
gives up says `UNDECIDED`, which is no success.

An operation takes effect at one moment between its call and its answer. One whose outcome is unknown takes effect once
at any moment after its call, or never; one that was surely not applied never does. Versions are not trusted: what the
model would answer is compared with what was answered. They only shorten the search, by facts of the model: in one
incarnation they grow by one with each write and never come back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final, NamedTuple

NEVER: Final = float("inf")
UNSEEN: Final = "?"
_MOST_STATES = 100_000
_SHOWN = 12


class Kind(Enum):
    """What was called."""

    PRESERVE = "preserve"
    APPEND = "append"
    PATCH = "patch"
    RESTORE = "restore"
    HANDOFF = "handoff"
    DROP = "drop"


class Wrote(NamedTuple):
    """A write was acknowledged; handoff and drop tell no incarnation."""

    version: int
    incarnation: str | None = None


class Saw(NamedTuple):
    """A restore's answer."""

    incarnation: str
    version: int
    items: tuple[str, ...]
    scalars: frozenset[tuple[str, Any]]


class Absent(NamedTuple):
    """No context was there: `never` had been, or it was `dropped`. Any other reason is one the model does not know."""

    reason: str


class Conflict(NamedTuple):
    """`if_version` did not match; `actual` is the version that was found instead, if it was told."""

    actual: int | None = None


class Lack(Enum):
    """There is no answer to compare with."""

    UNKNOWN = "unknown"
    SURELY_NOT = "surely not applied"


Result = Wrote | Saw | Absent | Conflict | Lack


@dataclass(frozen=True, slots=True)
class Operation:
    """One call of one client. `items`: what preserve stores or append adds; `scalars` likewise, None deletes.

    `ended` is `NEVER` where no answer came. `replicated`: the write was asked for, and acknowledged, at that level.
    """

    client: str
    kind: Kind
    began: float
    ended: float
    result: Result
    items: tuple[str, ...] = ()
    scalars: tuple[tuple[str, Any], ...] = ()
    if_version: int | None = None
    replicated: bool = False

    def __str__(self) -> str:
        ended = "never" if self.ended == NEVER else f"{self.ended:.6f}"
        given = [f"+{_short(self.items)}"] if self.items else []
        given += [f"{key}={value!r}" for key, value in self.scalars]
        given += [f"if_version={self.if_version}"] if self.if_version is not None else []
        call = f"{self.client} {self.kind.value}({', '.join(given)})"
        return f"[{self.began:.6f} .. {ended}] {call} -> {_said(self.result)}"


class State(NamedTuple):
    """A context between two operations; `gone` says why there is none. `dead`: incarnations that will not come back.

    An incarnation that nobody was ever told of is called `UNSEEN`.
    """

    incarnation: str = ""
    version: int = 0
    items: tuple[str, ...] = ()
    scalars: frozenset[tuple[str, Any]] = frozenset()
    gone: str = "never"
    dead: frozenset[str] = frozenset()

    def __str__(self) -> str:
        if self.gone:
            return f"absent ({self.gone})"
        return f"{self.incarnation} v{self.version} {_short(self.items)} {_plain(self.scalars)}"


class Outcome(Enum):
    """What the search found."""

    OK = "linearizable"
    VIOLATION = "not linearizable"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome; the order that was found and the state it leads to, for a violation those of all before it."""

    outcome: Outcome
    order: tuple[Operation, ...]
    state: State
    states: int
    explanation: str = ""


# -- the model -----------------------------------------------------------------------------------------------------


def step(state: State, op: Operation, name: str = UNSEEN) -> State | None:
    """The state after an operation, or None when its answer cannot be given in this state; `name`: see `perform`."""
    after, answer = perform(state, op, name)
    result = op.result
    if isinstance(result, Lack):
        fits = isinstance(answer, Wrote)
    elif isinstance(answer, Conflict) and isinstance(result, Conflict):
        fits = result.actual in (None, answer.actual)
    elif isinstance(answer, Wrote) and isinstance(result, Wrote):
        fits = answer.version == result.version and result.incarnation in (None, answer.incarnation)
    else:
        fits = answer == result
    return after if fits and after.incarnation not in state.dead else None


def perform(state: State, op: Operation, name: str) -> tuple[State, Result]:
    """What an operation does to a state, and what it is answered; `name`: of the incarnation, if it makes one."""
    is_absent, expected = bool(state.gone), op.if_version
    if is_absent and op.kind is not Kind.PRESERVE:
        return state, Absent(state.gone)
    if op.kind is Kind.RESTORE:
        return state, Saw(*state[:4])
    if expected is not None and expected != state.version:
        return state, Conflict(state.version)
    if op.kind is Kind.DROP:
        dead = state.dead if state.incarnation == UNSEEN else state.dead | {state.incarnation}
        return State(gone="dropped", dead=dead), Wrote(state.version)
    items, scalars = state.items, state.scalars
    if op.kind is Kind.PRESERVE:
        items, scalars = op.items, frozenset(op.scalars)
    elif op.kind is Kind.APPEND:
        items += op.items
    elif op.kind is Kind.PATCH:
        merged = {**dict(scalars), **dict(op.scalars)}
        scalars = frozenset((key, value) for key, value in merged.items() if value is not None)
    incarnation, version = name if is_absent else state.incarnation, state.version + 1
    return State(incarnation, version, items, scalars, "", state.dead), Wrote(version, incarnation)


# -- the search ----------------------------------------------------------------------------------------------------


class _Node(NamedTuple):
    """A place in the search: which operations have taken effect, and what they led to."""

    done: int
    state: State
    op: int
    parent: _Node | None


class _Facts:
    """A history, and what follows from it for every order; operations are bits, in the order of their calls."""

    def __init__(self, history: Iterable[Operation]) -> None:
        self.ops = sorted(filter(_matters, history), key=lambda op: op.began)
        self.began = [op.began for op in self.ops]
        answered = [index for index, op in enumerate(self.ops) if not isinstance(op.result, Lack)]
        self.by_end = sorted(answered, key=lambda index: self.ops[index].ended)
        self.answered = _mask(answered)
        self.preserves = _mask(index for index, op in enumerate(self.ops) if op.kind is Kind.PRESERVE)
        self.drops = _mask(i for i, op in enumerate(self.ops) if op.kind is Kind.DROP and op.result is Lack.UNKNOWN)
        self.choosy = _mask(index for index, op in enumerate(self.ops) if op.if_version is not None)
        self.writes: dict[tuple[str, int], int] = defaultdict(int)
        self.reads: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self.of: dict[str, int] = defaultdict(int)
        self.readers: dict[Any, int] = defaultdict(int)
        self.makers: dict[Any, int] = defaultdict(int)
        for index, op in enumerate(self.ops):
            self._note(1 << index, op)
        for found in self.reads.values():
            found.sort()
        # What was made twice, or by nobody, tells nothing about an order.
        self.unique = {thing for thing, mask in self.makers.items() if mask.bit_count() == 1}
        self.unclaimed = [name for name in self.of if (name, 1) not in self.writes]
        self.homes = [self._homes(op) for op in self.ops]
        self.alike = self._alike()
        self._passed: dict[tuple[str, int], int] = {}

    def _note(self, bit: int, op: Operation) -> None:
        result = op.result
        for thing in (*op.items, *op.scalars):
            self.makers[thing] |= bit
        if isinstance(result, Wrote) and result.incarnation is not None:
            self.writes[result.incarnation, result.version] |= bit
            self.of[result.incarnation] |= bit
        elif isinstance(result, Saw):
            self.reads[result.incarnation].append((result.version, bit))
            self.of[result.incarnation] |= bit
            for thing in (*result.items, *result.scalars):
                self.readers[thing] |= bit

    def _homes(self, op: Operation) -> set[str]:
        """The incarnations whose readers saw what an operation adds: it can only have taken effect in that one."""
        readers = [self.readers.get(thing, 0) for thing in (*op.items, *op.scalars) if thing in self.unique]
        results = [self.ops[index].result for mask in readers for index in _bits(mask)]
        return {result.incarnation for result in results if isinstance(result, Saw)}

    def _alike(self) -> dict[Any, int]:
        """Unknown operations whose effects nobody can tell apart: the one that was called first stands for all."""
        alike: dict[Any, int] = defaultdict(int)
        for index, op in enumerate(self.ops):
            is_seen = any(self.readers.get(thing) for thing in (*op.items, *op.scalars))
            if op.result is Lack.UNKNOWN and not is_seen:
                keys = frozenset((key, value is None) for key, value in op.scalars)
                alike[op.kind, op.if_version, bool(op.items), keys] |= 1 << index
        return alike

    def names(self, state: State, index: int) -> Iterable[str]:
        """What an incarnation may be called that an operation would make in a state."""
        result = self.ops[index].result
        if not state.gone:
            return (state.incarnation,)
        if isinstance(result, Wrote) and result.incarnation is not None:
            return (result.incarnation,)
        return (*self.unclaimed, UNSEEN)

    def passed(self, incarnation: str, version: int) -> int:
        """What can only have happened before this incarnation reached a version: its writes up to it, reads below."""
        key = incarnation, version
        if key not in self._passed:
            mask = 0
            for (name, written), bits in self.writes.items():
                mask |= bits if name == incarnation and written <= version else 0
            for seen, bit in self.reads.get(incarnation, ()):
                mask |= bit if seen < version else 0
            self._passed[key] = mask
        return self._passed[key]

    def lasting(self, done: int, before: State, state: State) -> State | None:
        """The state as far as it still matters; None when an answer that is left can no longer be explained."""
        if self._loses_what_is_read(done, before, state):
            return None
        if state.gone:
            return None if self.of.get(before.incarnation, 0) & ~done else state
        if self.passed(state.incarnation, state.version) & ~done:
            return None
        read = self._next_read(done, state)
        if read is not None and not self._can_become(done, state, read):
            return None
        if read is not None and read.items[: len(state.items)] == state.items:
            return state
        # Nobody will see this content: it is replaced before the next read.
        if any(self.readers.get(thing, 0) & ~done for thing in {*state.items, *state.scalars} & self.unique):
            return None
        return state._replace(items=_BLUR, scalars=frozenset())

    def _loses_what_is_read(self, done: int, before: State, state: State) -> bool:
        """Whether something was replaced that a later read shows, and that nobody can bring back."""
        if state.items[: len(before.items)] == before.items and before.scalars <= state.scalars:
            return False
        lost = {*before.items, *before.scalars} - {*state.items, *state.scalars}
        return any(self.readers.get(thing, 0) & ~done for thing in lost & self.unique)

    def _next_read(self, done: int, state: State) -> Saw | None:
        found = self.reads.get(state.incarnation, [])
        for _, bit in found[bisect_left(found, (state.version, 0)) :]:
            if not done & bit:
                result = self.ops[bit.bit_length() - 1].result
                return result if isinstance(result, Saw) else None
        return None

    def _can_become(self, done: int, state: State, read: Saw) -> bool:
        """Whether what is stored can still grow into what is read next; each write adds what it was given, once."""
        if read.version == state.version:
            return (state.items, state.scalars) == (read.items, read.scalars)
        has, length = len(state.items), len(read.items)
        grows = has <= length and read.items[:has] == state.items
        missing = [*(read.items[has:] if grows else ()), *(read.scalars - state.scalars)]
        if any(not self.makers.get(thing, 0) & ~done for thing in missing):
            return False
        return grows or any(
            self.ops[i].items == read.items[: len(self.ops[i].items)] for i in _bits(self.preserves & ~done)
        )

    def enabled(self, done: int) -> int:
        """What has been called before the first answer that is still to be explained."""
        first = next((self.ops[i].ended for i in self.by_end if not done >> i & 1), NEVER)
        return ((1 << bisect_right(self.began, first)) - 1) & ~done

    def unlike(self, enabled: int, state: State) -> int:
        """The unknown operations among these that are worth trying: one of each sort."""
        unknown = enabled & ~self.answered
        for alike in self.alike.values():
            some = unknown & alike
            unknown &= ~(some & (some - 1)) if some else -1
        spare = unknown & self.alike.get(_SPARE, 0)
        if state.items == _BLUR and spare:
            # Nobody sees what is added here, and nothing can stand for less elsewhere than an append nobody saw.
            return unknown & (spare | self.drops | self.preserves | self.choosy)
        return unknown

    def has_purpose(self, index: int, enabled: int, state: State, after: State) -> bool:
        """Whether an unknown operation leads to something, and to where it was seen.

        It may be thought to wait until just before an answered one that needs it, or a drop that asks for its version.
        """
        if self.homes[index] and self.homes[index] != {after.incarnation}:
            return False
        if self.answered >> index & 1 or after.gone or state.gone == "never":
            return True
        return any(_waits(self.ops[other], after) for other in _bits(enabled & (self.answered | self.drops)))


_BLUR: Final = (UNSEEN,)
_SPARE: Final = (Kind.APPEND, None, True, frozenset[Any]())


def _waits(op: Operation, state: State) -> bool:
    """Whether an operation can still take effect in this incarnation, now or at a later version."""
    result = op.result
    if isinstance(result, Saw):
        return result.incarnation == state.incarnation and result.version >= state.version
    if isinstance(result, Wrote):
        is_here = result.incarnation in (None, state.incarnation)
        return is_here and result.version >= state.version + (op.kind is not Kind.DROP)
    if isinstance(result, Conflict):
        return result.actual is None or result.actual >= state.version
    return result is Lack.UNKNOWN and op.if_version is not None and op.if_version >= state.version


def _matters(op: Operation) -> bool:
    """What did nothing and was told nothing may be left out."""
    return op.result is not Lack.SURELY_NOT and not (op.kind is Kind.RESTORE and op.result is Lack.UNKNOWN)


class _Tried:
    """Where the search has been. Who used up more unknown operations to come to the same place has fewer ways on."""

    def __init__(self, answered: int) -> None:
        self._answered = answered
        self._used: dict[tuple[int, State], list[int]] = defaultdict(list)
        self.count = 0

    def is_new(self, node: _Node) -> bool:
        """Whether this node can lead where none before it could; notes it."""
        used = self._used[node.done & self._answered, node.state]
        unknown = node.done & ~self._answered
        if any(not fewer & ~unknown for fewer in used):
            return False
        used.append(unknown)
        self.count += 1
        return True


def search(history: Iterable[Operation], most_states: int = _MOST_STATES) -> Verdict:
    """Look for an order; the explanation of a violation is the caller's to ask for (`check`)."""
    facts = _Facts(history)
    best = _Node(0, State(), -1, None)
    queue, tried, numbers = [(0, 0, 0, best)], _Tried(facts.answered), count(1)
    while queue:
        *_, node = heappop(queue)
        if not tried.is_new(node):
            continue
        answered = node.done & facts.answered
        if answered.bit_count() > (best.done & facts.answered).bit_count():
            best = node
        if answered == facts.answered:
            return Verdict(Outcome.OK, *_path(facts, node), tried.count)
        if tried.count > most_states:
            return Verdict(Outcome.UNDECIDED, *_path(facts, best), tried.count, _stuck(facts, best))
        for one in _following(facts, node):
            explained = (one.done & facts.answered).bit_count()
            heappush(queue, (-explained, one.done.bit_count() - explained, next(numbers), one))
    return Verdict(Outcome.VIOLATION, *_path(facts, best), tried.count, _stuck(facts, best))


def _following(facts: _Facts, node: _Node) -> list[_Node]:
    """The next nodes, the likelier first; only one where the model leaves no choice."""
    state = node.state
    # This incarnation passes each version once: who was told to have made the next one must be the next to write.
    forced = facts.writes.get((state.incarnation, state.version + 1), 0) & ~node.done
    enabled = facts.enabled(node.done)
    nodes: list[_Node] = []
    for index in [*_bits(enabled & facts.answered), *_bits(0 if forced else facts.unlike(enabled, state))]:
        done = node.done | 1 << index
        for name in facts.names(state, index):
            after = step(state, facts.ops[index], name)
            if after is None:
                continue
            if after == state:
                # It changes nothing and needs nothing: whatever order there is, it may as well stand here.
                return [_Node(done, after, index, node)]
            if forced not in (0, 1 << index) or not facts.has_purpose(index, enabled, state, after):
                continue
            lasting = facts.lasting(done, state, after)
            if lasting is not None:
                nodes.append(_Node(done, lasting, index, node))
    return nodes


def check(history: Sequence[Operation], most_states: int = _MOST_STATES) -> Verdict:
    """Whether a history of one context is linearizable; a violation is explained by its first impossible answer."""
    verdict = search(history, most_states)
    if verdict.outcome is Outcome.OK:
        return verdict
    ends = sorted({op.ended for op in history if op.ended != NEVER})
    low, high = 0, len(ends) - 1
    while low < high:
        middle = (low + high) // 2
        is_wrong = search(until(history, ends[middle]), most_states).outcome is not Outcome.OK
        low, high = (low, middle) if is_wrong else (middle + 1, high)
    before = search(until(history, ends[low - 1]) if low else (), most_states)
    first = search(until(history, ends[low]), most_states)
    lines = [
        f"no order {'explains' if verdict.outcome is Outcome.VIOLATION else 'was found that explains'} the answer of"
    ]
    for op in [op for op in history if op.ended == ends[low]]:
        lines += [f"  {op}", f"{len(before.order)} operations before it are explained, in this order:"]
        lines += [*_lines(before.order[-_SHOWN:]), f"  = {before.state}"]
        lines += [f"where it would be {_said(perform(before.state, op, UNSEEN)[1])}; with it, others end like this:"]
    lines.append(first.explanation)
    return replace(verdict, order=before.order, state=before.state, explanation="\n".join(lines))


def until(history: Iterable[Operation], moment: float) -> list[Operation]:
    """The history as it was known at a moment: who had not been answered may have been applied or not."""
    return [
        op if op.ended <= moment or op.result is Lack.SURELY_NOT else replace(op, ended=NEVER, result=Lack.UNKNOWN)
        for op in history
        if op.began <= moment
    ]


def assert_linearizable(histories: Mapping[str, Sequence[Operation]], most_states: int = _MOST_STATES) -> None:
    """Check each context's history.

    Raises:
        AssertionError: One is not linearizable, or it could not be decided; says which and why.
    """
    for context_id, history in histories.items():
        verdict = check(history, most_states)
        assert verdict.outcome is Outcome.OK, f"context {context_id} is {verdict.outcome.value}\n{verdict.explanation}"


def _path(facts: _Facts, node: _Node) -> tuple[tuple[Operation, ...], State]:
    """The order that led to a node, and the state it leads to with all its content."""
    steps: list[_Node] = []
    while node.parent is not None:
        steps.append(node)
        node = node.parent
    state = node.state
    for one in reversed(steps):
        state, _ = perform(state, facts.ops[one.op], one.state.incarnation)
    return tuple(facts.ops[one.op] for one in reversed(steps)), state


def _stuck(facts: _Facts, node: _Node) -> str:
    """Where the search came farthest, and why nothing could follow."""
    order, state = _path(facts, node)
    lines = [*_lines(order[-4:]), f"  = {state}", "what could be next:"]
    for index in _bits(facts.enabled(node.done)):
        op = facts.ops[index]
        steps = [(step(state, op, name), perform(state, op, name)) for name in facts.names(state, index)]
        if any(after is not None for after, _ in steps):
            lines.append(f"  {op}: fits, but leaves another answer unexplained")
        elif facts.answered >> index & 1:
            lines.append(f"  {op}: no, it would be {_said(steps[0][1][1])}")
    return "\n".join(lines)


def _said(result: Result) -> str:
    if isinstance(result, Lack):
        return result.value
    return str(State(*result, "")) if isinstance(result, Saw) else repr(result)


def _lines(ops: Iterable[Operation]) -> list[str]:
    return [f"  {op}" for op in ops]


def _short(items: Sequence[str]) -> str:
    shown = [item if len(item) <= 16 else f"{item[:13]}..." for item in items[-8:]]
    return f"[{f'{len(items) - 8} more, ' if len(items) > 8 else ''}{', '.join(shown)}]"


def _plain(scalars: Iterable[tuple[str, Any]]) -> str:
    return "{" + ", ".join(f"{key}={value!r}" for key, value in sorted(scalars)) + "}"


def _mask(indexes: Iterable[int]) -> int:
    return sum(1 << index for index in indexes)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


# -- what holds across a failover ----------------------------------------------------------------------------------


def broken_promises(history: Sequence[Operation]) -> list[str]:
    """What no failover excuses, as sentences: replicated writes are kept, and no read shows what cannot be there.

    Weaker than linearizable: whatever was not acknowledged as replicated may be lost, and reads may go back to before
    it. But no item stands twice, out of the order in which one followed the other, in another incarnation than the one
    it was added to, or at all if nobody can have added it.
    """
    makers = {item: op for op in history for item in op.items}
    kept = [op for op in history if op.replicated and isinstance(op.result, Wrote)]
    reads = [op for op in history if isinstance(op.result, Saw | Absent)]
    replacers = [op for op in history if op.kind in (Kind.DROP, Kind.PRESERVE) and _may_be_applied(op)]
    wrong = [f"two writes made the same version: {op}" for op in _twins(kept)]
    for read in reads:
        found = (*_impossible(read, makers), *_lost(read, kept, replacers), *_risen(read, kept, history))
        wrong += [f"{sentence}: {read}" for sentence in found]
    return wrong


def _twins(kept: Sequence[Operation]) -> list[Operation]:
    made = Counter[Result](op.result for op in kept if isinstance(op.result, Wrote) and op.result.incarnation)
    return [op for op in kept if made[op.result] > 1]


def _impossible(read: Operation, makers: Mapping[str, Operation]) -> Iterator[str]:
    if not isinstance(read.result, Saw):
        return
    items = read.result.items
    if len(set(items)) < len(items):
        yield f"items stand twice ({_short([item for item in items if items.count(item) > 1])})"
    latest: Operation | None = None
    for item in items:
        maker = makers.get(item)
        if maker is None or maker.result is Lack.SURELY_NOT or maker.began > read.ended:
            yield f"{item} was added by nobody ({maker})"
            continue
        if isinstance(maker.result, Wrote) and maker.result.incarnation not in (None, read.result.incarnation):
            yield f"{item} belongs to another incarnation ({maker})"
        if latest is not None and maker.ended < latest.began:
            yield f"{item} stands behind what was added later ({latest})"
        latest = maker if latest is None or maker.began > latest.began else latest


def _lost(read: Operation, kept: Sequence[Operation], replacers: Sequence[Operation]) -> Iterator[str]:
    for op in kept:
        if op.ended >= read.began or op.kind is Kind.DROP or not isinstance(op.result, Wrote):
            continue
        # Between the write and the read these may have taken effect.
        between = {one.kind for one in replacers if one.ended >= op.began and one.began <= read.ended and one is not op}
        if not isinstance(read.result, Saw) or op.result.incarnation not in (None, read.result.incarnation):
            if Kind.DROP not in between:
                yield f"a replicated write is gone with its incarnation ({op})"
        elif op.result.incarnation is not None and read.result.version < op.result.version:
            yield f"a replicated version is gone ({op})"
        elif not between and not set(op.items) <= set(read.result.items):
            yield f"a replicated item is gone ({op})"


def _may_be_applied(op: Operation) -> bool:
    return isinstance(op.result, Wrote) or op.result is Lack.UNKNOWN


def _risen(read: Operation, kept: Sequence[Operation], history: Sequence[Operation]) -> Iterator[str]:
    """A replicated drop is the end of every incarnation that was there before it."""
    if not isinstance(read.result, Saw):
        return
    name = read.result.incarnation
    born = [op.ended for op in history if isinstance(op.result, Wrote) and op.result.incarnation == name]
    for op in kept:
        if op.kind is Kind.DROP and op.ended < read.began and born and min(born) < op.began:
            yield f"a dropped incarnation is back ({op})"
