"""Changes: the same on private data, on views and by a plain reference; bytes that no writer wrote are refused."""

from __future__ import annotations

import copy
import enum
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lukhas_redis.codec import (
    Append,
    Change,
    CodecLimits,
    Patch,
    ReadOnlyDict,
    applied,
    apply,
    changes_shape,
    list_at,
    pack_change,
    read_only,
    serialize,
    unpack_change,
)
from lukhas_redis.codec.values import pack
from lukhas_redis.errors import (
    ContextCorrupted,
    ContextTooLarge,
    InvalidArgument,
    InvalidPath,
    LukhasRedisError,
    SerializationError,
)
from tests.unit.codec.storable import canonical, contexts, depth_of, examples, keys, nested, texts, values

# Few keys and shallow values, so that patches meet what they patch.
small_keys = st.sampled_from(["a", "b", "c", 1, (1,)])
small_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["x", "y"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(small_keys, inner, max_size=4),
        st.just({1, 2}),
    ),
    max_leaves=12,
)
small_contexts = st.dictionaries(small_keys, small_values, max_size=5)
patches = st.dictionaries(small_keys, small_values, min_size=1, max_size=4).map(Patch)


def list_paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all lists inside `data`."""
    if not isinstance(data, (dict, list, tuple)):
        return []
    inside = data.items() if isinstance(data, dict) else enumerate(data)
    found = [deep for step, value in inside for deep in list_paths(value, (*path, step))]
    return [path, *found] if isinstance(data, list) else found


def changes_of(data: dict[Any, Any]) -> st.SearchStrategy[Change]:
    """Changes that fit `data`."""
    paths = list_paths(data)
    appends: st.SearchStrategy[Change] = st.nothing()
    if paths:
        appends = st.builds(Append, st.sampled_from(paths), st.lists(small_values, min_size=1, max_size=3))
    return appends | patches


def reference(data: Any, change: Change) -> Any:
    """What a change makes of `data`, written down without regard to speed; nothing is changed in place."""
    if isinstance(change, Patch):
        return merge_patch(data, change.merge)
    if not change.path:
        return data + change.items
    step, inner = change.path[0], Append(change.path[1:], change.items)
    new = reference(data[step], inner)
    if isinstance(data, dict):
        return {key: new if key == step else item for key, item in data.items()}
    return type(data)(new if at == step else item for at, item in enumerate(data))


def merge_patch(target: Any, patch: Any) -> Any:
    """The pseudocode of RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    if not isinstance(target, dict):
        target = {}
    target = dict(target)
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merge_patch(target.get(name), value)
    return target


def fresh(change: Change) -> Change:
    """The change as a reader gets it."""
    return unpack_change(pack_change(change))


@examples(400, 20_000)
@given(small_contexts, st.data())
def test_folding_is_the_same_everywhere(data: dict[Any, Any], draw: st.DataObject) -> None:
    """`apply` on plain data == `applied` on views == the reference, after each of several changes; old views stay."""
    expected, folded, view = data, copy.deepcopy(data), read_only(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        change = draw.draw(changes_of(expected))
        before, old = view, canonical(copy.deepcopy(view))
        expected = reference(expected, change)
        shared = fresh(change)
        view = applied(view, shared)
        assert canonical(copy.deepcopy(applied(before, shared))) == canonical(expected)  # the change is not used up
        apply(folded, shared)
        assert canonical(folded) == canonical(expected)
        assert canonical(copy.deepcopy(view)) == canonical(expected)
        assert canonical(copy.deepcopy(before)) == old
        assert type(view) is ReadOnlyDict
        assert not mutable_parts(view)


def mutable_parts(value: Any) -> list[Any]:
    """Plain containers anywhere inside a view."""
    if type(value) in (dict, list, set):
        return [value]
    inside = list(value.values()) if isinstance(value, dict) else value
    return [part for item in inside for part in mutable_parts(item)] if isinstance(value, (dict, list, tuple)) else []


@examples(200, 10_000)
@given(st.lists(keys, min_size=1, max_size=4).map(tuple), st.lists(values, min_size=1, max_size=4))
def test_an_append_of_any_type_is_packed_and_unpacked(path: tuple[Any, ...], items: list[Any]) -> None:
    """Path and items come back with equal types."""
    change = fresh(Append(path, items))
    assert isinstance(change, Append)
    assert (canonical(change.path), canonical(change.items)) == (canonical(path), canonical(items))


@examples(200, 10_000)
@given(contexts.filter(bool))
def test_a_patch_of_any_type_is_packed_and_unpacked(merge: dict[Any, Any]) -> None:
    """A patch is packed exactly as a context is."""
    change = fresh(Patch(merge))
    assert isinstance(change, Patch)
    assert canonical(change.merge) == canonical(merge)
    assert pack_change(Patch(merge)) == serialize(merge)


RFC_7396: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"a": "foo"}, {"b": None}, {"a": "foo"}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    # From section 3: title, nested, list replaced, added.
    (
        {
            "title": "Goodbye!",
            "author": {"givenName": "John", "familyName": "Doe"},
            "tags": ["example", "sample"],
            "content": "This will be unchanged",
        },
        {"title": "Hello!", "phoneNumber": "+01-123-456-7890", "author": {"familyName": None}, "tags": ["example"]},
        {
            "title": "Hello!",
            "author": {"givenName": "John"},
            "tags": ["example"],
            "content": "This will be unchanged",
            "phoneNumber": "+01-123-456-7890",
        },
    ),
    ({"a": (1, 2)}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ({"a": 1}, {"a": [None, {"b": None}]}, {"a": [None, {"b": None}]}),
]


@pytest.mark.parametrize("data,merge,expected", RFC_7396)
def test_the_examples_of_rfc_7396(data: Any, merge: Any, expected: Any) -> None:
    """Appendix A where both sides are objects, the example of section 3, and None inside lists, which stays."""
    private = copy.deepcopy(data)
    apply(private, fresh(Patch(merge)))
    assert private == expected
    assert applied(read_only(data), fresh(Patch(merge))) == expected


def test_what_is_off_the_path_is_shared() -> None:
    """An append copies the containers along its path and nothing else; a patch those it goes through."""
    view = read_only({"m": [{"parts": [1]}, {"parts": [2]}], "other": [[3]], "t": ([4], [5])})
    after = applied(view, Append(("m", 0, "parts"), [{"new": [9]}]))
    assert after["other"] is view["other"]
    assert after["m"][1] is view["m"][1]
    assert after["m"][0] == {"parts": [1, {"new": [9]}]}
    inside = applied(view, Append(("t", 1), [6]))
    assert inside["t"] == ([4], [5, 6])
    assert inside["t"][0] is view["t"][0]
    patched = applied(view, Patch({"n": {"x": 1}, "t": None}))
    assert patched == {"m": [{"parts": [1]}, {"parts": [2]}], "other": [[3]], "n": {"x": 1}}
    assert patched["m"] is view["m"]
    assert view == {"m": [{"parts": [1]}, {"parts": [2]}], "other": [[3]], "t": ([4], [5])}


@pytest.mark.parametrize("path", [("x",), ("a", 0), ("a", 5), ("s", 0), ("d",)], ids=repr)
def test_a_change_that_does_not_fit_is_corruption(path: tuple[Any, ...]) -> None:
    """The writer had checked the path, so a reader who does not find it tells so, and nothing was changed."""
    data: dict[str, Any] = {"a": [1], "s": {1}, "d": {}}
    for fold in (lambda change: apply(data, change), lambda change: applied(read_only(data), change)):
        with pytest.raises(ContextCorrupted) as caught:
            fold(Append(path, [1]))
        assert caught.value.fields["reason"] == "segment"
    assert data == {"a": [1], "s": {1}, "d": {}}


# -- packing refuses ---------------------------------------------------------------------------------------


class _Letter(enum.Enum):
    A = "a"


@dataclass
class _Note:
    text: str


def test_items_and_patches_are_converted_like_contexts() -> None:
    """Enum, dataclass, tuple of items and views inside them become what `serialize` makes of them."""
    items = (_Letter.A, _Note("x"), read_only({"a": [1]}))
    change = fresh(Append(("m",), items))  # type: ignore[arg-type]
    assert change == Append(("m",), ["a", {"text": "x"}, {"a": [1]}])
    assert fresh(Patch({_Letter.A: _Note("y")})) == Patch({"a": {"text": "y"}})
    assert fresh(Patch(read_only({"a": [1]}))) == Patch({"a": [1]})


BAD: list[tuple[Any, type[LukhasRedisError], str]] = [
    (Append(("m",), []), InvalidArgument, "items must be a list or tuple with something in it, got an empty list"),
    (Append(("m",), "ab"), InvalidArgument, "items must be a list or tuple"),  # type: ignore[arg-type]
    (Append(("m",), {"a": 1}), InvalidArgument, "got dict"),  # type: ignore[arg-type]
    (Append(("m",), {1}), InvalidArgument, "got set"),  # type: ignore[arg-type]
    (Append(("m",), None), InvalidArgument, "got NoneType"),  # type: ignore[arg-type]
    (Append((), [1]), InvalidPath, "needs the resolved path"),
    (Append("/m", [1]), InvalidPath, "needs the resolved path"),  # type: ignore[arg-type]
    (Append((["m"],), [1]), InvalidPath, "no possible key"),
    (Append(("m",) * 50, [1]), InvalidPath, "max_depth=50"),
    (Patch({}), InvalidArgument, "merge_patch must be a dict with something in it"),
    (Patch([1]), InvalidArgument, "merge_patch must be a dict"),  # type: ignore[arg-type]
    (Patch(None), InvalidArgument, "merge_patch must be a dict"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("change,error,why", BAD, ids=[why for _, _, why in BAD])
def test_what_is_no_change_is_refused(change: Any, error: type[LukhasRedisError], why: str) -> None:
    """Wrong types and nothing at all are the caller's mistakes."""
    with pytest.raises(error, match=why):
        pack_change(change)


PLACES: list[tuple[Change, str, str]] = [
    (Append(("m",), [1, {"content": 1j}]), "/1/content", "type complex"),
    (Append(("m",), ["\ud800"]), "/0", "lone surrogate"),
    (Append(("m", 3, "parts"), nested(49)["a"]), "/0" * 47, "deeper than 50"),
    (Patch({"a": {"b": [object()]}}), "/a/b/0", "type object"),
    (Patch(nested(51)), "/a" + "/0" * 49, "deeper than 50"),
]


@pytest.mark.parametrize("change,path,why", PLACES, ids=[why for _, _, why in PLACES])
def test_a_refusal_names_the_place_inside_the_items_or_the_patch(change: Change, path: str, why: str) -> None:
    """The path begins at the items or the patch, not at some wrapping; the limit is the one of the whole context."""
    with pytest.raises(SerializationError, match=why) as caught:
        pack_change(change)
    assert caught.value.fields["path"] == path


@pytest.mark.parametrize("steps", [1, 2, 48, 49])
def test_items_may_be_as_deep_as_the_whole_stays_within_the_limit(steps: int) -> None:
    """An append is accepted exactly when the folded context would be, at every length of the path."""
    path: tuple[Any, ...] = ("a",) + (0,) * (steps - 1)
    data: dict[str, Any] = nested(steps, [])
    for deep in range(50 - steps, 53 - steps):
        if not deep:
            continue
        items: list[Any] = [0]
        for _ in range(deep - 1):
            items = [items]
        whole = reference(data, Append(path, items))
        assert depth_of(whole) == steps + deep
        if depth_of(whole) <= 50:
            serialize(whole)
            assert fresh(Append(path, items)) == Append(path, items)
        else:
            with pytest.raises(SerializationError, match="deeper than 50"):
                serialize(whole)
            with pytest.raises(SerializationError, match="deeper than 50"):
                pack_change(Append(path, items))


def test_deep_keys_on_the_path_can_be_read_again() -> None:
    """A key may be a tuple as deep as the context allows, and the change about it is still readable."""
    limits = CodecLimits(max_depth=3)
    data: dict[Any, Any] = {((1,),): [[0]]}
    serialize(data, limits)
    change = Append((((1,),),), [[1]])
    assert unpack_change(pack_change(change, limits), limits) == change


def test_size_and_items_are_limited() -> None:
    """The packed change, its path included, is within both limits or ContextTooLarge."""
    small = CodecLimits(max_context_size_bytes=100, max_items=10)
    for change in (Append(("m",), ["x" * 100]), Append(("m" * 60,), ["x" * 40]), Patch({"a": "x" * 100})):
        with pytest.raises(ContextTooLarge, match="max_context_size_bytes=100"):
            pack_change(change, small)
    with pytest.raises(ContextTooLarge, match="max_items=10"):
        pack_change(Append(("m",), [0] * 9), small)
    with pytest.raises(ContextTooLarge, match="max_items=10"):
        pack_change(Patch(dict.fromkeys(range(11))), small)
    assert unpack_change(pack_change(Append(("m",), [0] * 8), small), small) == Append(("m",), [0] * 8)


# -- bytes that nobody wrote -------------------------------------------------------------------------------

FORGED: dict[str, bytes] = {
    "nothing": b"",
    "a number": b"\x01",
    "an empty patch": b"\x80",
    "an empty append": b"\x90",
    "no path": pack([[1]]),
    "no items": pack(["m"]),
    "items that are no list": pack(["m", "items"]),
    "items that are a dict": pack(["m", {"a": 1}]),
    "items that are a tuple": pack(["m", (1,)]),
    "no item": pack(["m", []]),
    "a list as key": pack([["m"], [1]]),
    "a dict as key": pack([{}, [1]]),
    "a tuple at the top": pack(("m", [1])),
    "a set at the top": pack({1}),
    "too many steps": pack([*["m"] * 50, [1]]),
    "too deep for its path": pack([*["m"] * 48, [[[1]]]]),
    "more bytes": pack(["m", [1]]) + b"\x01",
    "cut short": pack(["m", [1, 2]])[:-1],
    "a mark out of place": b"\x92\xa1m\x91\xc7\x00\x01\x01"[:-1] + b"\x01",
    "a flood": b"\x92\xa1m\xdd\x00\x20\x00\x00" + b"\x80" * 0x200000,
    "too deep a patch": b"\x81\xa1a" + b"\x91" * 50 + b"\xc0",
}


@pytest.mark.parametrize("raw", FORGED.values(), ids=FORGED)
def test_forged_changes_are_corrupted(raw: bytes) -> None:
    """What `pack_change` never writes is ContextCorrupted."""
    with pytest.raises(ContextCorrupted):
        unpack_change(raw)


@examples(500, 50_000)
@given(st.binary(max_size=60))
def test_random_bytes_are_a_change_or_corrupted(raw: bytes) -> None:
    """Nothing but our error comes out; what passes can be packed again."""
    try:
        change = unpack_change(raw)
    except LukhasRedisError:
        return
    assert unpack_change(pack_change(change)) == change or "nan" in repr(change).lower()


# -- shape -------------------------------------------------------------------------------------------------

SHAPES: list[tuple[dict[Any, Any], dict[Any, Any], bool]] = [
    ({"a": 1}, {"a": 2}, False),
    ({"a": 1}, {"a": "x"}, False),
    ({"a": None}, {"a": b"x"}, False),
    ({"a": {"b": {"c": 1}}}, {"a": {"b": {"c": 2}}}, False),
    ({"a": 1}, {"b": None}, False),
    ({"a": {"b": 1}}, {"a": {"c": None}}, False),
    ({"a": {}}, {"a": {}}, False),
    ({"a": 1}, {"b": 1}, True),
    ({"a": 1}, {"a": None}, True),
    ({"a": None}, {"a": None}, True),
    ({"a": 1}, {"a": [1]}, True),
    ({"a": 1}, {"a": (1,)}, True),
    ({"a": 1}, {"a": {1}}, True),
    ({"a": 1}, {"a": frozenset()}, True),
    ({"a": 1}, {"a": {}}, True),
    ({"a": [1]}, {"a": 1}, True),
    ({"a": [1]}, {"a": [1]}, True),
    ({"a": {1}}, {"a": 1}, True),
    ({"a": {"b": 1}}, {"a": 1}, True),
    ({"a": {"b": 1}}, {"a": {"c": 1}}, True),
    ({"a": {"b": 1}}, {"a": {"b": None}}, True),
    ({"a": 1}, {"b": {}}, True),
    ({"a": 1}, {"a": _Letter.A}, True),
    ({"a": 1}, {"a": _Note("x")}, True),
]


@pytest.mark.parametrize("data,merge,changes", SHAPES)
def test_which_patches_change_the_shape(data: Any, merge: Any, changes: bool) -> None:
    """Only scalars put in the place of scalars do not; the same for views."""
    assert changes_shape(data, merge) is changes
    assert changes_shape(read_only(data), merge) is changes


@examples(500, 50_000)
@given(small_contexts, st.data())
def test_a_patch_that_keeps_the_shape_keeps_every_list(data: dict[Any, Any], draw: st.DataObject) -> None:
    """Where `changes_shape` says False, the paths of all lists are the same before and after, and so are the lists."""
    change = draw.draw(patches | st.just(Patch(scalars_changed(data))))
    if not changes_shape(data, change.merge):
        after = reference(data, change)
        assert list_paths(after) == list_paths(data)
        for path in list_paths(data):
            assert list_at(after, path) == list_at(data, path)


def scalars_changed(data: dict[Any, Any]) -> dict[Any, Any]:
    """A patch that replaces every scalar in dicts inside dicts."""
    return {
        key: scalars_changed(item) if isinstance(item, dict) else "new"
        for key, item in data.items()
        if not isinstance(item, (list, tuple, set))
    }


@examples(200, 10_000)
@given(small_contexts)
def test_replacing_all_scalars_keeps_the_shape(data: dict[Any, Any]) -> None:
    """The False that makes appends cheap is really given."""
    assert changes_shape(data, scalars_changed(data)) is False


@examples(200, 10_000)
@given(st.dictionaries(texts, values, max_size=4), st.dictionaries(texts, values, min_size=1, max_size=4))
def test_a_patched_context_is_no_deeper_than_its_parts(data: dict[Any, Any], merge: dict[Any, Any]) -> None:
    """So checking the depth of the patch alone is enough."""
    folded = copy.deepcopy(data)
    apply(folded, Patch(copy.deepcopy(merge)))
    assert depth_of(folded) <= max(depth_of(data), depth_of(merge))
