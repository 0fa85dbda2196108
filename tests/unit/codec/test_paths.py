"""Paths: both forms find the same list, and whatever does not lead to one says where it stops."""

from __future__ import annotations

import enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lukhas_redis.codec import CodecLimits, checked_path, list_at, read_only, resolve
from lukhas_redis.errors import InvalidArgument, InvalidPath
from tests.unit.codec.storable import contexts, examples, keys_only

INNER = ["deep"]
DATA: dict[Any, Any] = {
    "messages": [{"parts": INNER}, {"parts": []}],
    "pair": (1, INNER),
    "3": ["text three"],
    7: ["int seven"],
    "": {"": INNER},
    "a/b": {"m~n": INNER, "~1": INNER},
    "set": {1},
    "text": "abc",
    "none": None,
    True: ["one"],
    (1, b"k"): INNER,
    UUID(int=1): INNER,
}


class _Field(enum.StrEnum):
    MESSAGES = "messages"


FOUND: list[tuple[Any, tuple[Any, ...]]] = [
    ("/messages", ("messages",)),
    (["messages"], ("messages",)),
    ((_Field.MESSAGES, 1, "parts"), ("messages", 1, "parts")),
    ("/messages/0/parts", ("messages", 0, "parts")),
    ("/pair/1", ("pair", 1)),
    ("/3", ("3",)),
    ((7,), (7,)),
    ("//", ("", "")),
    ("/a~1b/m~0n", ("a/b", "m~n")),
    ("/a~1b/~01", ("a/b", "~1")),
    (((1, b"k"),), ((1, b"k"),)),
    ((UUID(int=1),), (UUID(int=1),)),
]


@pytest.mark.parametrize("path,steps", FOUND, ids=[repr(path) for path, _ in FOUND])
def test_a_path_finds_its_list_in_plain_data_and_in_a_view(path: Any, steps: tuple[Any, ...]) -> None:
    """A pointer and a tuple of keys resolve to the keys and indexes that exist, of exact types."""
    checked = checked_path(path)
    for data in (DATA, read_only(DATA)):
        assert resolve(data, checked) == steps
        assert [type(step) for step in resolve(data, checked)] == [type(step) for step in steps]
        found = data
        for step in steps:
            found = found[step]
        assert list_at(data, steps) is found


MALFORMED: list[tuple[Any, str]] = [
    ("messages", "begins with '/'"),
    ("#/messages", "begins with '/'"),
    ("/a~2b", "'~' must be written '~0'"),
    ("/a~", "'~' must be written"),
    ("/\ud800", "lone surrogate"),
    ("/a" * 50, "max_depth=50 allows 49"),
    (("a",) * 50, "max_depth=50 allows 49"),
    (("\ud800",), "lone surrogate"),
    ((["a"],), "no possible key"),
    (({"a": 1},), "no possible key"),
    ((1j,), "not supported"),
    (b"/messages", "got bytes"),
    ({"messages"}, "got set"),
    (None, "got NoneType"),
    (7, "got int"),
]


@pytest.mark.parametrize("path,why", MALFORMED, ids=[f"{path!a:.30}" for path, _ in MALFORMED])
def test_what_is_no_path_is_refused_without_data(path: Any, why: str) -> None:
    """A malformed path is InvalidPath, an InvalidArgument with printable text and a `path` field."""
    with pytest.raises(InvalidPath) as caught:
        checked_path(path)
    assert why in caught.value.message
    assert isinstance(caught.value, InvalidArgument)
    assert caught.value.code == "INVALID_CONTEXT"
    assert caught.value.fields["path"].isprintable()
    caught.value.message.encode()


def test_the_longest_path_is_one_less_than_the_depth() -> None:
    """49 steps are a path under max_depth=50, and the limit is the one given."""
    assert checked_path(("a",) * 49) == ("a",) * 49
    assert checked_path("/a" * 49) == "/a" * 49
    with pytest.raises(InvalidPath, match="max_depth=3 allows 2"):
        checked_path("/a/b/c", CodecLimits(max_depth=3))


NOWHERE: list[tuple[Any, str, str]] = [
    ("/nothing", "/nothing", "there is no /nothing: the top has no such key"),
    ("/messages/0/x/y", "/messages/0/x", "/messages/0 has no such key"),
    ("/messages/2", "/messages/2", "/messages is a list of 2: there is no such index"),
    ("/messages/-", "/messages/-", "to append, name the list itself"),
    ("/messages/01", "/messages/01", "leading zeros"),
    ("/messages/-1", "/messages/-1", "without sign"),
    ("/messages/+1", "/messages/+1", "without sign"),
    ("/messages/\u0661", "/messages/\u0661", "whole numbers"),
    ("/messages/" + "9" * 5000, "/messages/" + "9" * 64 + "...", "whole numbers"),
    ("/messages/", "/messages/", "whole numbers"),
    (("messages", -1), "/messages/-1", "whole numbers from 0"),
    (("messages", True), "/messages/True", "whole numbers from 0"),
    (("messages", 1.0), "/messages/1.0", "whole numbers from 0"),
    (("messages", "0"), "/messages/0", "whole numbers from 0"),
    (("messages", 2**200), "/messages/<int>", "no such index"),
    ("/7", "/7", "it has the int key 7: give the path as a tuple"),
    ((3,), "/3", "the top has no such key"),
    ("/set/0", "/set/0", "/set is a set, which no path goes into"),
    ("/text/0", "/text/0", "/text is a str, which no path goes into"),
    ("/none/0", "/none/0", "/none is None, which no path goes into"),
]


@pytest.mark.parametrize("path,place,why", NOWHERE, ids=[f"{path!a:.30}" for path, _, _ in NOWHERE])
def test_a_path_that_leads_nowhere_says_where_it_stops(path: Any, place: str, why: str) -> None:
    """The pointer of the first step that fails is in `path`; the message says what is there, views named as plain."""
    for data in (DATA, read_only(DATA)):
        with pytest.raises(InvalidPath) as caught:
            resolve(data, checked_path(path))
        assert caught.value.fields["path"] == place
        assert why in caught.value.message


NO_LISTS: list[tuple[Any, str]] = [
    ((), "the top is a dict and no list"),
    (("pair",), "/pair is a tuple and no list"),
    (("pair", 0), "/pair/0 is an int and no list"),
    (("set",), "/set is a set and no list"),
    (("none",), "/none is None and no list"),
]


@pytest.mark.parametrize("path,why", NO_LISTS, ids=repr)
def test_what_is_no_list_is_named(path: Any, why: str) -> None:
    """`list_at` says which type stands at the end of the path, and the empty path is the whole."""
    for data in (DATA, read_only(DATA)):
        with pytest.raises(InvalidPath) as caught:
            list_at(data, path)
        assert caught.value.message == why
    assert resolve(DATA, checked_path("")) == resolve(DATA, checked_path([])) == ()


@examples(200, 10_000)
@given(contexts, st.data())
def test_every_place_is_found_by_its_own_path(data: dict[Any, Any], draw: st.DataObject) -> None:
    """A tuple of the keys on the way to anything resolves to itself; where all keys are text, so does the pointer."""
    place: Any = data
    path: list[Any] = []
    while isinstance(place, (dict, list, tuple)) and place:
        step = draw.draw(st.sampled_from(list(place) if isinstance(place, dict) else range(len(place))))
        path.append(step)
        place = place[step]
    assert resolve(data, checked_path(path)) == tuple(path)
    node: Any = data
    for step in path:
        if isinstance(node, dict) and type(step) is not str:
            return
        node = node[step]
    text = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
    assert resolve(data, checked_path(text)) == tuple(path)


@examples(200, 10_000)
@given(st.text() | st.lists(keys_only, max_size=4), contexts)
def test_any_path_is_found_or_refused(path: Any, data: dict[Any, Any]) -> None:
    """Whatever the path is, the answer is a place or InvalidPath."""
    try:
        list_at(data, resolve(data, checked_path(path)))
    except InvalidPath as error:
        error.message.encode()
