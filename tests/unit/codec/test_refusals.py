"""What cannot be stored is refused with its place, before anything is made of it."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

import msgpack
import pytest

from lukhas_redis.codec import CodecLimits, deserialize, encode, serialize
from lukhas_redis.errors import ContextTooLarge, InvalidArgument, SerializationError
from tests.unit.codec.storable import CONTEXT_ID, nested


class _OddZone(tzinfo):
    def utcoffset(self, dt: datetime | None) -> timedelta:
        return timedelta(0)

    def dst(self, dt: datetime | None) -> None:
        return None

    def tzname(self, dt: datetime | None) -> str:
        return "odd"


class _Letter(enum.Enum):
    A = "a"


class _Box(enum.Enum):
    LIST = [1]  # noqa: RUF012 - a mutable value is the point


class _BadModel:
    def model_dump(self, mode: str) -> dict[str, Any]:
        raise RuntimeError(f"no {mode}")


class _EndlessModel:
    def model_dump(self, mode: str) -> _EndlessModel:
        return _EndlessModel()


@dataclass
class _Link:
    to: Any = None


def _loop() -> _Link:
    link = _Link()
    link.to = [link]
    return link


def _circle() -> list[Any]:
    circle: list[Any] = [0]
    circle.append({"back": circle})
    return circle


PLACES = [
    ({"messages": [1, 2, 3, {"content": 1j}]}, "/messages/3/content", "type complex is not supported"),
    ({"a": object()}, "/a", "type object"),
    ({"a": deque()}, "/a", "type deque"),
    ({"a": range(3)}, "/a", "type range"),
    ({"a": int}, "/a", "type type"),
    ({"a": (1, {"b": {3: lambda: 0}})}, "/a/1/b/3", "type function"),
    ({"a": {b"k": [object]}}, "/a/b'k'/0", "not supported"),
    ({"a": {(1, 2): 1j}}, "/a/<tuple>", "not supported"),
    ({"a": {2**200: 1j}}, "/a/<int>", "not supported"),
    ({"x/y~z": 1j}, "/x~1y~0z", "not supported"),
    ({"k" * 200: 1j}, "/" + "k" * 64 + "...", "not supported"),
    ({"a": ["ok", "bad \ud800 here"]}, "/a/1", "lone surrogate U+D800 at character 4"),
    ({"a": {"\udfff": 1}}, "/a/\\udfff", "lone surrogate U+DFFF"),
    ({"a": ({"\ud800"},)}, "/a/0/0", "lone surrogate"),
    ({"a": datetime(2024, 1, 1, tzinfo=_OddZone())}, "/a", "_OddZone"),
    ({"a": _circle()}, "/a/1/back", "circular reference to /a"),
    ({"a": _loop()}, "/a/to/0", "circular reference to /a"),
    ({"a": _BadModel()}, "/a", "converting _BadModel failed: no python"),
    ({"a": _EndlessModel()}, "/a", "does not end"),
    ({"a": {_Letter.A: 1, "a": 2}}, "/a/a", "two keys become the same"),
    ({"a": {_Letter.A, "a"}}, "/a", "two elements become the same"),
    ({"a": {_Box.LIST: 1}}, "/a/<_Box>", "cannot be a key"),
    ({"a": msgpack.Timestamp(1)}, "/a", "type Timestamp"),
]


@pytest.mark.parametrize("data,path,why", PLACES, ids=[f"{path}" for _, path, _ in PLACES])
def test_a_refusal_names_the_place(data: dict[str, Any], path: str, why: str) -> None:
    """SerializationError carries the pointer of the offending value and says why, in printable text."""
    with pytest.raises(SerializationError) as caught:
        encode(data, CONTEXT_ID)
    assert caught.value.fields["path"] == path
    assert why in str(caught.value)
    assert path in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize("top", [[1], "text", None, 7, [("a", 1)]], ids=repr)
def test_the_top_must_be_a_dict(top: Any) -> None:
    """Anything but a Mapping at the top is refused with the path of the whole."""
    with pytest.raises(SerializationError, match="must be a dict") as caught:
        serialize(top)
    assert caught.value.fields["path"] == ""


@pytest.mark.parametrize("innermost", [0, "x", None], ids=repr)
def test_depth_50_is_stored_and_51_is_not(innermost: Any) -> None:
    """The outermost dict is level 1; level 50 is accepted, on the way out too; level 51 is refused with its place."""
    assert deserialize(serialize(nested(50, innermost))) == nested(50, innermost)
    with pytest.raises(SerializationError, match="deeper than 50") as caught:
        serialize(nested(51, innermost))
    assert caught.value.fields["path"] == "/a" + "/0" * 49


def test_depth_counts_tuples_sets_keys_and_empty_containers() -> None:
    """Every kind of container is a level, inside a key as well, and an empty one too."""
    limits = CodecLimits(max_depth=3)
    fitting: list[dict[Any, Any]] = [{"a": (1, (2,))}, {((1,),): 1}, {"a": [[]]}, {"a": {frozenset({1})}}]
    for data in fitting:
        assert deserialize(serialize(data, limits), limits) == data
    deep: list[dict[Any, Any]] = [
        {"a": (1, (2, ()))},
        {((1, ()),): 1},
        {(((),),): 1},
        {"a": [[[]]]},
        {"a": {(frozenset(),)}},
    ]
    for data in deep:
        with pytest.raises(SerializationError, match="deeper than 3"):
            serialize(data, limits)


def test_one_byte_over_the_size_limit() -> None:
    """10,485,760 serialized bytes are stored, one more is refused with both numbers."""
    overhead = len(serialize({"a": b"x" * 100_000}, CodecLimits())) - 100_000
    exact = 10_485_760 - overhead
    assert len(serialize({"a": b"x" * exact})) == 10_485_760
    with pytest.raises(ContextTooLarge, match="10485761 bytes") as caught:
        serialize({"a": b"x" * (exact + 1)})
    assert caught.value.fields == {"size_bytes": 10_485_761, "limit_bytes": 10_485_760}


def test_data_that_repeats_one_object_is_refused_before_it_is_packed() -> None:
    """Ten gigabytes made of one string in many places, or of shared lists, are refused without being built."""
    text = "x" * 1_000_000
    with pytest.raises(ContextTooLarge, match="at least"):
        serialize({"a": [text] * 10_000})
    with pytest.raises(ContextTooLarge, match="at least"):
        serialize({"a": [{text: i} for i in range(10_000)]})
    shared: list[Any] = [0]
    for _ in range(40):
        shared = [shared, shared]
    with pytest.raises(ContextTooLarge, match="max_items=10000 items"):
        serialize({"a": shared}, CodecLimits(max_items=10_000))


def test_too_many_items_are_refused_by_name_of_the_limit() -> None:
    """More items than max_items is an error that names the limit and its value."""
    with pytest.raises(ContextTooLarge, match="max_items=10 items") as caught:
        serialize({"a": [{}] * 10}, CodecLimits(max_items=10))
    assert caught.value.fields["limit_items"] == 10


def test_a_container_that_changes_meanwhile_is_a_typed_error() -> None:
    """A dict that grows while it is walked gives SerializationError, not the RuntimeError of the interpreter."""
    data: dict[Any, Any] = {}

    class Growing:
        def model_dump(self, mode: str) -> int:
            data[len(data)] = mode
            return 1

    data |= {"a": Growing(), "b": Growing()}
    with pytest.raises(SerializationError, match="changed size"):
        serialize(data)


def test_extension_objects_of_msgpack_cannot_forge_a_value() -> None:
    """The ExtType of msgpack ExtType is a namedtuple like any other: as value or as key it becomes a tuple."""
    forged = msgpack.ExtType(1, b"")
    assert deserialize(serialize({"a": [forged, 5], forged: 1})) == {"a": [(1, b""), 5], (1, b""): 1}


@pytest.mark.parametrize(
    "limits",
    [{"max_depth": 0}, {"max_depth": 401}, {"max_items": 0}, {"max_context_size_bytes": 2**40}, {"max_depth": True}],
    ids=repr,
)
def test_limits_outside_their_range(limits: dict[str, int]) -> None:
    """A limit that the libraries below could not keep is refused when it is made."""
    with pytest.raises(InvalidArgument, match=next(iter(limits))):
        CodecLimits(**limits)
