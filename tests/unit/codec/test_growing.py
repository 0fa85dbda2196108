"""Growing a view in place: only while nobody holds any part of it.

What belongs here: who may hold what, and what each of them sees. What does not: what a change means (`test_changes`).
Invariant: whoever held a part of the view finds it as it was.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from lukhas_redis.codec import Append, Patch, ReadOnlyDict, ReadOnlyList, grow, read_only

PATH = ("rooms", 1, "messages")
needs_counts = pytest.mark.skipif(
    not hasattr(sys, "getrefcount") or not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="nothing tells here who holds an object, so a copy is made always",
)


def view() -> ReadOnlyDict:
    """A view with a list three levels down."""
    made: ReadOnlyDict = read_only({"rooms": [{}, {"messages": [1, 2]}], "other": [0]})
    return made


def grown(box: list[ReadOnlyDict]) -> ReadOnlyDict:
    """It, after an append."""
    return grow(box, Append(PATH, [{"n": 3}]))


@needs_counts
def test_a_view_that_nobody_holds_grows_in_place() -> None:
    """No container is made anew."""
    box = [view()]
    before = [id(box[0]), id(box[0]["rooms"]), id(box[0]["rooms"][1]["messages"])]
    after = grown(box)
    assert [id(after), id(after["rooms"]), id(after["rooms"][1]["messages"])] == before
    assert after == {"rooms": [{}, {"messages": [1, 2, {"n": 3}]}], "other": [0]}


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "the whole": lambda data: data,
    "a list on the way": lambda data: data["rooms"],
    "a dict on the way": lambda data: data["rooms"][1],
    "the list": lambda data: data["rooms"][1]["messages"],
    "an iterator": lambda data: iter(data["rooms"][1]["messages"]),
    "its values": lambda data: data["rooms"][1].values(),
    "a method": lambda data: data["rooms"][1]["messages"].index,
    "a container around it": lambda data: {"mine": [data["rooms"][1]["messages"]]},
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_somebody_holds_stays_as_it_is(holder: str) -> None:
    """He sees no growth; the new view has it, and shares what lies beside the path."""
    box = [view()]
    other = id(box[0]["other"])
    held: Any = HOLDERS[holder](box[0])
    after = grown(box)
    assert after["rooms"][1]["messages"] == [1, 2, {"n": 3}]
    assert id(after["other"]) == other
    assert {"n": 3} not in _reachable(held)


def _reachable(held: Any) -> list[Any]:
    """Everything in what is held."""
    if callable(held):
        held = getattr(held, "__self__")  # noqa: B009 - a bound method
    if isinstance(held, dict):
        return [part for value in held.values() for part in (value, *_reachable(value))]
    if isinstance(held, int):
        return []
    return [part for value in held for part in (value, *_reachable(value))]


def test_what_is_added_is_read_only() -> None:
    """The new items are views, too."""
    after = grown([view()])
    assert type(after["rooms"][1]["messages"][2]) is ReadOnlyDict
    assert type(after["rooms"][1]["messages"]) is ReadOnlyList


def test_a_patch_makes_a_new_view() -> None:
    """Only lists grow in place."""
    box = [view()]
    before = box[0]
    assert grow(box, Patch({"other": None})) == {"rooms": [{}, {"messages": [1, 2]}]}
    assert before["other"] == [0]
