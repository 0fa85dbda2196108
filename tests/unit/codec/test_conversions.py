"""Types that are stored as another one, exactly as documented."""

from __future__ import annotations

import enum
import uuid
from collections import ChainMap, OrderedDict, UserDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel, RootModel

from lukhas_redis.codec import deserialize, serialize
from lukhas_redis.codec.convert import converter
from tests.unit.codec.storable import canonical


class _Colour(enum.Enum):
    RED = "red"
    MIXED = ("red", 1)


class _Role(enum.StrEnum):
    USER = "user"


class _Number(enum.IntFlag):
    ONE = 1


@dataclass
class _Step:
    name: str
    parts: list[Any] = field(default_factory=list)


class _Model(BaseModel):
    at: datetime
    steps: tuple[int, ...] = (1, 2)
    inner: _Model | None = None


class _Names(RootModel[list[str]]):
    pass


class _SubText(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not me"


class _SubInt(int):
    pass


class _SubFloat(float):
    pass


class _SubBytes(bytes):
    pass


class _SubList(list[Any]):
    pass


class _SubSet(set[Any]):
    pass


class _SubFrozen(frozenset[Any]):
    pass


class _SubMoment(datetime):
    pass


class _SubDate(date):
    pass


class _SubTime(time):
    pass


class _SubDelta(timedelta):
    pass


class _SubId(uuid.UUID):
    pass


class _SubDecimal(Decimal):
    pass


Point = namedtuple("Point", "x y")
MOMENT = (2024, 10, 27, 2, 30, 0, 5, UTC)

CASES = [
    (_Colour.RED, "red"),
    (_Colour.MIXED, ("red", 1)),
    (_Role.USER, "user"),
    (_Number.ONE, 1),
    (_Step("a", [_Step("b")]), {"name": "a", "parts": [{"name": "b", "parts": []}]}),
    (
        _Model(at=datetime(2024, 1, 1), inner=_Model(at=datetime(2024, 1, 2))),
        {
            "at": datetime(2024, 1, 1),
            "steps": (1, 2),
            "inner": {"at": datetime(2024, 1, 2), "steps": (1, 2), "inner": None},
        },
    ),
    (_Names(["a"]), ["a"]),
    (_SubText("x"), "x"),
    (_SubInt(2**80), 2**80),
    (_SubFloat(1.5), 1.5),
    (_SubBytes(b"x"), b"x"),
    (bytearray(b"x"), b"x"),
    (memoryview(b"abc")[::2], b"ac"),
    (_SubList([_SubInt(1)]), [1]),
    (Point(1, _SubText("y")), (1, "y")),
    (_SubSet({1}), {1}),
    (_SubFrozen({1}), frozenset({1})),
    (OrderedDict(a=1), {"a": 1}),
    (defaultdict(list, a=[1]), {"a": [1]}),
    (MappingProxyType({"a": 1}), {"a": 1}),
    (UserDict(a=1), {"a": 1}),
    (ChainMap({"a": 1}), {"a": 1}),
    (_SubMoment(*MOMENT, fold=1), datetime(*MOMENT, fold=1)),
    (_SubDate(2024, 1, 2), date(2024, 1, 2)),
    (_SubTime(1, 2, 3, 4, UTC, fold=1), time(1, 2, 3, 4, UTC, fold=1)),
    (_SubDelta(days=-3, microseconds=7), timedelta(days=-3, microseconds=7)),
    (_SubId(int=9), uuid.UUID(int=9)),
    (_SubDecimal("1.10"), Decimal("1.10")),
]


@pytest.mark.parametrize("given,stored", CASES, ids=lambda value: type(value).__name__)
def test_a_documented_conversion(given: Any, stored: Any) -> None:
    """The value is stored as its documented counterpart, of exactly that type, beside other data and inside it."""
    again = deserialize(serialize({"before": 1, "x": given, "deep": [(given,)]}))
    assert canonical(again) == canonical({"before": 1, "x": stored, "deep": [(stored,)]})


def test_converted_keys() -> None:
    """Dict keys are converted by the same rules as values."""
    data = {_Role.USER: 1, Point(1, 2): 2, _SubInt(3): 3, _SubText("t"): 4}
    assert canonical(deserialize(serialize(data))) == canonical({"user": 1, (1, 2): 2, 3: 3, "t": 4})


def test_the_top_may_be_any_mapping() -> None:
    """A Mapping that is no dict is stored as a dict."""
    assert deserialize(serialize(MappingProxyType({"a": OrderedDict(b=1)}))) == {"a": {"b": 1}}


def test_there_is_no_rule_for_other_types() -> None:
    """A type without a rule has no converter."""
    assert converter(complex) is None
