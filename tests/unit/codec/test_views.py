"""Views: equal to plain data in everything but that they cannot be changed."""

from __future__ import annotations

import copy
import json
import pickle
import tracemalloc
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given

from lukhas_redis.codec import (
    CodecLimits,
    ReadOnlyDict,
    ReadOnlyList,
    ReadOnlySet,
    deserialize,
    read_only,
    serialize,
    view_of,
)
from lukhas_redis.errors import ContextCorrupted
from tests.unit.codec.storable import EVERY_TYPE, canonical, contexts, examples, nested
from tests.unit.codec.test_bombs import FLOODS, FORGED

VIEWS: dict[Any, Any] = {ReadOnlyDict: dict, ReadOnlyList: list, ReadOnlySet: set}
SAMPLES: list[tuple[Any, Any]] = [
    (ReadOnlyDict({"a": 1, "b": 2}), MappingProxyType),
    (ReadOnlyList([3, 1, 2]), tuple),
    (ReadOnlySet({1, 2}), frozenset),
]
# What the immutable counterpart lacks can change the object, but for these.
HARMLESS = {"__reversed__", "copy", "__reduce_ex__"}
ARGUMENTS: list[tuple[Any, ...]] = [(), (0,), (1,), ("a",), (0, 9), ("a", 9), ({3},), ({"c": 3},), ([("c", 3)],)]


def mutators() -> list[tuple[Any, str]]:
    """Every method that a dict, list or set has and its immutable counterpart has not, found, not listed."""
    return [
        (view, name)
        for view, immutable in SAMPLES
        for name in sorted(set(dir(VIEWS[type(view)])) - set(dir(immutable)) - HARMLESS)
    ]


def plain(value: Any) -> Any:
    """The plain form of a view, by the slowest and plainest way."""
    kind = VIEWS.get(type(value), type(value))
    if kind is dict:
        return {key: plain(item) for key, item in value.items()}
    return kind(map(plain, value)) if kind in (list, tuple, set) else value


def is_read_only(value: Any) -> bool:
    """Whether nothing that can be changed is anywhere inside."""
    if type(value) in (dict, list, set):
        return False
    parts = list(value.values()) if isinstance(value, dict) else value
    return all(map(is_read_only, parts)) if isinstance(value, (dict, list, tuple)) else True


def test_the_list_of_mutators_is_not_empty() -> None:
    """The comparison really finds them."""
    found = {name for _, name in mutators()}
    assert found >= {"__setitem__", "__delitem__", "update", "append", "sort", "discard", "pop", "clear", "insert"}
    assert len(mutators()) > 25


@pytest.mark.parametrize("view,name", mutators(), ids=[f"{type(view).__name__}.{name}" for view, name in mutators()])
def test_every_mutator_says_what_to_do_instead(view: Any, name: str) -> None:
    """Whatever arguments it gets, it raises TypeError and changes nothing."""
    before = plain(view)
    for arguments in ARGUMENTS:
        with pytest.raises(TypeError, match=r"read-only; restore\(\.\.\., shared=False\) or copy\.deepcopy"):
            getattr(view, name)(*arguments)
    assert plain(view) == before


OPERATORS = ["v['a'] = 1", "v[0] = 1", "v[:] = []", "del v['a']", "del v[0]", "del v[:]"] + [
    f"v {operator}= {operand}" for operator in "|+*&-^" for operand in ("{3}", "[3]", "3", "{'c': 3}")
]


@pytest.mark.parametrize("statement", OPERATORS)
@pytest.mark.parametrize("view", [view for view, _ in SAMPLES], ids=lambda view: type(view).__name__)
def test_no_statement_changes_a_view(view: Any, statement: str) -> None:
    """Item assignment, deletion and every in-place operator raise TypeError."""
    before = plain(view)
    with pytest.raises(TypeError):
        exec(statement, {"v": view})
    assert plain(view) == before


@pytest.mark.parametrize("view", [view for view, _ in SAMPLES], ids=lambda view: type(view).__name__)
def test_initialising_again_changes_nothing(view: Any) -> None:
    """`__init__` of a view does nothing, and no attribute can be set."""
    before = plain(view)
    view.__init__([("x", 9)])
    assert plain(view) == before
    with pytest.raises(AttributeError):
        view.note = 1
    with pytest.raises(TypeError):
        hash(view)


def test_views_are_made_like_their_plain_types() -> None:
    """The constructors take what dict, list and set take."""
    assert ReadOnlyDict([("a", 1)], b=2) == {"a": 1, "b": 2}
    assert (ReadOnlyDict(), ReadOnlyList(), ReadOnlySet()) == ({}, [], set())
    assert ReadOnlyList("ab") == ["a", "b"]
    assert ReadOnlySet([1, 1]) == {1}
    assert repr(ReadOnlyDict(a=ReadOnlyList([1]))) == "{'a': [1]}"


def test_what_makes_a_new_object_makes_a_plain_one() -> None:
    """Copies, slices and operators give dict, list and set that can be changed; the view stays."""
    one, two, three = (view for view, _ in SAMPLES)
    made: list[Any] = [
        one.copy(), one | {"c": 3}, {"c": 3} | one, dict(one),
        two.copy(), two[:], two + two[:1], two[:1] + two, two * 2, 2 * two, list(two), sorted(two),
        three.copy(), three | {3}, {3} | three, three & {1}, three - {1}, three ^ {1}, set(three),
        three.union([3]), three.intersection([1]), three.difference([1]), three.symmetric_difference([1]),
    ]  # fmt: skip
    assert {type(value) for value in made} == {dict, list, set}
    copies = [copy.copy(view) for view in (one, two, three)]
    assert list(map(type, copies)) == [dict, list, set]
    assert copies == [one, two, three]


@examples(200, 10_000)
@given(contexts)
def test_a_view_equals_its_data_and_gives_it_back(data: dict[Any, Any]) -> None:
    """Read-only all the way down; deepcopy and pickle give plain data with equal types, all the way down."""
    raw = serialize(data)
    for view in (read_only(data), view_of(raw)[0]):
        assert type(view) is ReadOnlyDict
        assert is_read_only(view)
        assert canonical(plain(view)) == canonical(data)
        assert canonical(copy.deepcopy(view)) == canonical(data)
        pickled = pickle.loads(pickle.dumps(view))
        assert type(pickled) is dict
        assert canonical(deserialize(serialize(view))) == canonical(data)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_and_deepcopy_leave_nothing_read_only(protocol: int) -> None:
    """Views inside tuples inside views become plain too, and every copy is a new object."""
    data = {"a": [{"b": ({"c": [1]}, {1})}], "d": {"e": 1}}
    view = read_only(data)
    for made in (copy.deepcopy(view), pickle.loads(pickle.dumps(view, protocol)), copy.deepcopy((view,))[0]):
        assert canonical(made) == canonical(data)
        made["a"][0]["b"][0]["c"].append(2)
    assert view == data == {"a": [{"b": ({"c": [1]}, {1})}], "d": {"e": 1}}


def test_a_view_passes_for_its_plain_type() -> None:
    """isinstance, equality both ways, json, pattern matching and a new preserve work."""
    data: dict[str, Any] = {"a": [1, {"b": None}]}
    view = read_only(data)
    assert isinstance(view, dict)
    assert isinstance(view["a"], list)
    assert view == data == view
    assert json.dumps(view) == json.dumps(data)
    match view:
        case {"a": [1, {"b": None}]}:
            pass
        case _:
            pytest.fail("no match")
    assert serialize(view) == serialize(data)


def test_read_only_copies_and_leaves_the_original_alone() -> None:
    """The plain tree stays as it is and shares no container with its view; a view inside is taken as it is."""
    inner = read_only({"x": [1]})
    data: dict[str, Any] = {"a": [1], "s": {1}, "t": ([2],), "v": inner}
    view = read_only(data)
    data["a"].append(2)
    data["s"].add(2)
    data["t"][0].append(3)
    assert view == {"a": [1], "s": {1}, "t": ([2],), "v": {"x": [1]}}
    assert view["v"] is inner


def test_every_type_in_a_view() -> None:
    """Marked arrays become tuple, frozenset, and read-only sets and lists."""
    view, _ = view_of(serialize(EVERY_TYPE))
    assert canonical(copy.deepcopy(view)) == canonical(EVERY_TYPE)
    assert [type(part) for part in view["empty"]] == [ReadOnlyDict, ReadOnlyList, tuple, ReadOnlySet, frozenset]


@pytest.mark.parametrize("raw", [*FORGED.values(), *FLOODS.values()], ids=[*FORGED, *FLOODS])
def test_what_cannot_be_decoded_cannot_be_viewed(raw: bytes) -> None:
    """Forged bytes and floods are refused as `deserialize` refuses them."""
    with pytest.raises(ContextCorrupted) as caught:
        view_of(raw)
    assert caught.value.fields["reason"] == "undecodable"


def test_the_depth_limit_holds_for_views() -> None:
    """Containers of every kind count, inside keys too, also where only the built data shows the depth."""
    limits = CodecLimits(max_depth=3)
    fitting: list[dict[Any, Any]] = [{"a": (1, (2,))}, {((1,),): 1}, {"a": [[]]}, {"a": {frozenset({1})}}]
    for data in fitting:
        assert view_of(serialize(data, limits), limits)[0] == data
    deep: list[dict[Any, Any]] = [{"a": (1, (2, ()))}, {((1, ()),): 1}, {"a": [[[]]]}, {"a": [{"b": {}}]}]
    for data in deep:
        with pytest.raises(ContextCorrupted, match="deeper than 3"):
            view_of(serialize(data), limits)
    assert view_of(serialize(nested(50)))[0] == nested(50)


MEASURED: list[dict[Any, Any]] = [
    {"m": [{"role": "user", "content": f"{n}" + "x" * 1_000} for n in range(2_000)]},
    {"m": [{"content": f"{n}" + "x" * 1_000 + "\U0001f600"} for n in range(500)]},
    {"m": [{"content": f"{n}" + "汉字" * 200} for n in range(500)]},
    {f"key {n}": {f"inner {n}": n} for n in range(5_000)},
    {"m": [[n / 7 for n in range(1_000)] for _ in range(100)]},
    {"m": [(n, {n, n + 1}) for n in range(5_000)]},
]


def _measured(raw: bytes) -> tuple[int, int]:
    """The estimate of a view, and what the allocator says."""
    tracemalloc.start()
    try:
        view, estimate = view_of(raw)
        actual = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert view
    return estimate, actual


@pytest.mark.parametrize("data", MEASURED, ids=["messages", "emoji", "cjk", "keys", "floats", "tuples and sets"])
def test_the_memory_estimate_is_honest(data: dict[Any, Any]) -> None:
    """Within a third of what the allocator says, whatever the data is made of."""
    raw = serialize(data)
    view_of(raw)
    # Threads of other tests' servers and stores allocate as well, but not every time.
    measured = [_measured(raw) for _ in range(3)]
    estimate, actual = measured[0][0], min(actual for _, actual in measured)
    assert 0.9 * actual < estimate < 1.34 * actual
