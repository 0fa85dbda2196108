"""Dates, times and their zones as bytes and back.

What belongs here: the byte form of datetime, date, time and timedelta. What does not: which extension number each
one has (`values`).
Invariant: a moment comes back with the same fields, fold and zone: a zone by its key, never by its present offset.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from struct import Struct
from zoneinfo import ZoneInfo

from lukhas_redis.errors import SerializationError, UnsupportedFormat

_DATE = Struct(">HBB")
_TIME = Struct(">BBBIB")  # hour, minute, second, microsecond, fold
_DATETIME = Struct(">HBBBBBIB")
_DELTA = Struct(">iII")  # days, seconds, microseconds
_OFFSET = Struct(">q")  # microseconds east of UTC
_MICROSECOND = timedelta(microseconds=1)
_ZONE_KEY = re.compile(r"[A-Za-z0-9_+\-]{1,64}(/[A-Za-z0-9_+\-]{1,64}){0,3}")
_FIXED, _NAMED = b"F", b"Z"


def pack_zone(zone: tzinfo | None) -> bytes:
    """Return the bytes of a zone: none, a fixed offset with its name, or the key of a `zoneinfo` zone."""
    if zone is None:
        return b""
    if isinstance(zone, ZoneInfo):
        return _NAMED + _zone_key(zone).encode()
    if type(zone) is not timezone:
        raise SerializationError(f"cannot store a time zone of type {type(zone).__name__}: use zoneinfo or timezone")
    offset, name = zone.utcoffset(None), zone.tzname(None)
    custom = "" if name == timezone(offset).tzname(None) else name
    return _FIXED + _OFFSET.pack(offset // _MICROSECOND) + custom.encode()


def _zone_key(zone: ZoneInfo) -> str:
    if not zone.key or not _ZONE_KEY.fullmatch(zone.key):
        raise SerializationError("cannot store a ZoneInfo that has no IANA key")
    return zone.key


def unpack_zone(data: bytes) -> tzinfo | None:
    """Return the zone of `pack_zone`; a key this machine does not know is UnsupportedFormat (install tzdata)."""
    if not data:
        return None
    kind, rest = data[:1], data[1:]
    if kind == _NAMED:
        return _find_zone(rest.decode("ascii"))
    if kind != _FIXED:
        raise ValueError("unknown kind of time zone")
    offset = timedelta(microseconds=_OFFSET.unpack(rest[:8])[0])
    name = rest[8:].decode()
    return timezone(offset, name) if name else timezone(offset)


def _find_zone(key: str) -> ZoneInfo:
    if not _ZONE_KEY.fullmatch(key):
        raise ValueError("malformed time zone key")
    try:
        return ZoneInfo(key)
    except (OSError, ValueError, LookupError, ImportError) as error:  # what zoneinfo raises differs per Python
        raise UnsupportedFormat(f"time zone {key!r} is unknown on this machine: install tzdata", zone=key) from error


def pack_datetime(value: datetime) -> bytes:
    """Return the bytes of a datetime, fold and zone included."""
    fields = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return _DATETIME.pack(*fields, value.fold) + pack_zone(value.tzinfo)


def unpack_datetime(data: bytes) -> datetime:
    """Return the datetime of `pack_datetime`."""
    year, month, day, hour, minute, second, microsecond, fold = _DATETIME.unpack_from(data)
    zone = unpack_zone(data[_DATETIME.size :])
    return datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def pack_time(value: time) -> bytes:
    """Return the bytes of a time of day, fold and zone included."""
    fields = (value.hour, value.minute, value.second, value.microsecond)
    return _TIME.pack(*fields, value.fold) + pack_zone(value.tzinfo)


def unpack_time(data: bytes) -> time:
    """Return the time of `pack_time`."""
    hour, minute, second, microsecond, fold = _TIME.unpack_from(data)
    return time(hour, minute, second, microsecond, unpack_zone(data[_TIME.size :]), fold=fold)


def pack_date(value: date) -> bytes:
    """Return the bytes of a date."""
    return _DATE.pack(value.year, value.month, value.day)


def unpack_date(data: bytes) -> date:
    """Return the date of `pack_date`."""
    return date(*_DATE.unpack(data))


def pack_timedelta(value: timedelta) -> bytes:
    """Return the bytes of a duration, exact to the microsecond."""
    return _DELTA.pack(value.days, value.seconds, value.microseconds)


def unpack_timedelta(data: bytes) -> timedelta:
    """Return the duration of `pack_timedelta`."""
    return timedelta(*_DELTA.unpack(data))
