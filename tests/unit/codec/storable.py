"""Data for the codec's tests: strategies over every storable type, and a comparison that sees types."""

from __future__ import annotations

import os
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

NIGHTLY = os.environ.get("LUKHAS_NIGHTLY") == "1"
CONTEXT_ID = "3f0c2b1e-8d7a-4c55-9a51-0d6f2f6f1c11"
CONTAINERS = (dict, list, tuple, set, frozenset)


def examples(smoke: int, nightly: int) -> settings:
    """Return the settings of a property test: its number of examples in each tier, no deadline."""
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=nightly if NIGHTLY else smoke, deadline=None, suppress_health_check=slow)


def _offset(microseconds: int, name: str | None) -> timezone:
    offset = timedelta(microseconds=microseconds)
    return timezone(offset, name) if name else timezone(offset)


_DAY = 24 * 3600 * 1_000_000
offsets = st.builds(_offset, st.integers(1 - _DAY, _DAY - 1), st.none() | st.text(st.characters(codec="utf-8")))
zones = st.none() | offsets | st.just(UTC) | st.timezones()


def _folded(value: Any, fold: int) -> Any:
    return value.replace(fold=fold)


folds = st.integers(0, 1)
texts = st.text(st.characters(codec="utf-8"), max_size=40)
hashable_leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**200), 2**200),
    st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 0, -1]),
    st.floats(),
    texts,
    st.binary(max_size=40),
    st.decimals(),
    st.sampled_from(list(map(Decimal, ("sNaN123", "-0E-10", "1E+999999", "1.10", "-Infinity")))),
    st.uuids(),
    st.builds(_folded, st.datetimes(timezones=zones, allow_imaginary=True), folds),
    st.dates(),
    st.builds(_folded, st.times(timezones=zones), folds),
    st.timedeltas(),
)
# A signalling NaN cannot be hashed, so it is a value and no key.
keys_only = hashable_leaves.filter(lambda value: not (isinstance(value, Decimal) and value.is_snan()))
keys = st.recursive(
    keys_only,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
values = st.recursive(
    hashable_leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.lists(inner, max_size=5).map(tuple),
        st.sets(keys, max_size=4),
        st.frozensets(keys, max_size=4),
        st.dictionaries(texts | keys, inner, max_size=5),
    ),
    max_leaves=25,
)
contexts = st.dictionaries(texts | keys, values, max_size=6)


def canonical(value: Any) -> Any:
    """Return a form that is equal for two values only if these are equal with equal types all the way down."""
    kind = type(value)
    if kind is dict:
        return kind, [(canonical(key), canonical(item)) for key, item in value.items()]
    if kind is list or kind is tuple:
        return kind, [canonical(item) for item in value]
    if kind is set or kind is frozenset:
        return kind, sorted(repr(canonical(item)) for item in value)
    if kind is float:
        return kind, "NaN" if value != value else struct.pack(">d", value)
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind in (datetime, time):
        return kind, value.replace(tzinfo=None).isoformat(), value.fold, _zone(value.tzinfo)
    return kind, value


def _zone(zone: tzinfo | None) -> Any:
    if isinstance(zone, ZoneInfo):
        return type(zone), zone.key
    return type(zone), zone and (zone.utcoffset(None), zone.tzname(None))


def count_items(value: Any) -> int:
    """Return the items of `value` by the definition of `CodecLimits.max_items`, counted the plain way."""
    if type(value) is dict:
        return len(value) + sum(count_items(part) for pair in value.items() for part in pair)
    if type(value) not in CONTAINERS:
        return 0
    return len(value) + (type(value) is not list) + sum(map(count_items, value))


def depth_of(value: Any) -> int:
    """Return the depth of `value` by the definition of `CodecLimits.max_depth`."""
    if type(value) not in CONTAINERS:
        return 0
    parts = [*value, *value.values()] if type(value) is dict else value
    return 1 + max(map(depth_of, parts), default=0)


def nested(levels: int, innermost: Any = 0) -> dict[str, Any]:
    """Return a dict that is `levels` deep."""
    value: Any = innermost
    for _ in range(levels - 1):
        value = [value]
    return {"a": value}


EVERY_TYPE: dict[Any, Any] = {
    "none": None,
    "bool": [True, False],
    "int": [0, -1, 2**63, -(2**63) - 1, 2**64, 10**400],
    "float": [0.0, -0.0, 1.5, float("inf"), float("nan")],
    "str": ["", "é", "\U0001f600", "\x00"],
    "bytes": [b"", b"\xc7\x00\x01"],
    "empty": [{}, [], (), set(), frozenset()],
    "nested": ({"x": (1, [2, {3}])}, frozenset({(1, frozenset({2}))})),
    "datetime": datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    "date": date(1, 1, 1),
    "time": time(23, 59, 59, 999999, tzinfo=UTC),
    "timedelta": timedelta(days=-1, microseconds=1),
    "uuid": UUID(int=5),
    "decimal": [Decimal("1.10"), Decimal("NaN"), Decimal("1E-400")],
    (1, "two", b"3"): "tuple key",
    None: "none key",
    7: "int key",
    2.5: "float key",
    b"k": "bytes key",
    frozenset({1, 2}): "frozenset key",
    UUID(int=6): "uuid key",
    date(2024, 1, 1): "date key",
    2**70: "big key",
}
