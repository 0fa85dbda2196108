"""Conversions of types that are no storable value themselves but have an obvious one.

What belongs here: one rule per kind of type. What does not: walking through data (`plain`).
Invariant: a rule looks one level deep; what it returns is looked at again by the same walk.

| type | is stored as |
|---|---|
| Enum member | its value |
| dataclass instance | dict of its fields |
| pydantic model (any type with `model_dump`) | `model_dump(mode="python")` |
| Mapping, dict subclass | dict |
| subclass of any supported type, namedtuple included | that type |
| bytearray, memoryview | bytes |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID


def _enum(value: Any) -> Any:
    return value.value


def _dataclass(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _model(value: Any) -> Any:
    return value.model_dump(mode="python")


def _text(value: Any) -> str:
    return str.__str__(value)


def _bytes(value: Any) -> bytes:
    return bytes(memoryview(value))


def _datetime(value: Any) -> datetime:
    day = (value.year, value.month, value.day)
    return datetime.combine(date(*day), _time(value))


def _date(value: Any) -> date:
    return date(value.year, value.month, value.day)


def _time(value: Any) -> time:
    parts = (value.hour, value.minute, value.second, value.microsecond)
    return time(*parts, tzinfo=value.tzinfo, fold=value.fold)


def _timedelta(value: Any) -> timedelta:
    return timedelta(value.days, value.seconds, value.microseconds)


# In this order: a datetime is a date too.
_BASES: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    (Mapping, dict),
    (str, _text),
    (int, int.__int__),
    (float, float.__float__),
    ((bytes, bytearray, memoryview), _bytes),
    (list, list),
    (tuple, tuple),
    (set, set),
    (frozenset, frozenset),
    (datetime, _datetime),
    (date, _date),
    (time, _time),
    (timedelta, _timedelta),
    (UUID, lambda value: UUID(int=value.int)),
    (Decimal, Decimal),
)


def converter(kind: type) -> Callable[[Any], Any] | None:
    """Return what turns a value of type `kind` into a storable one, or None when there is no rule."""
    if issubclass(kind, Enum):
        return _enum
    if is_dataclass(kind):
        return _dataclass
    if callable(getattr(kind, "model_dump", None)):
        return _model
    return next((convert for base, convert in _BASES if issubclass(kind, base)), None)
