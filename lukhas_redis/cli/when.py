"""Moments on a command line: an age such as 10m, or a date with its time zone; both by the server's clock.

What belongs here: reading and resolving them. What does not: stream ids (`tail`).
Invariant: this machine's clock is never asked.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from lukhas_redis.store import ContextStore

_UNITS_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_AGE = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)


class When(click.ParamType[str]):
    """An age, or a date and time in ISO 8601 with its zone."""

    name = "when"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the form; what an age means depends on the server's clock."""
        if age_ms(value) is None and _date(value) is None:
            self.fail(f"{value!r:.40} is neither an age such as 30s, 10m, 2h, 1d, nor a date such as "
                      "2026-11-23T05:24:41Z, with its zone", param, ctx)  # fmt: skip
        return value


def age_ms(value: str) -> int | None:
    """The milliseconds of an age such as 10m; None: it is none."""
    found = _AGE.fullmatch(value)
    return int(found[1]) * _UNITS_MS[found[2]] if found else None


def server_now_ms(store: ContextStore) -> int:
    """The time by the server's clock; of several shards the latest."""
    return max(shard.now_ms for shard in store.stats().shards)


def moment_ms(value: str, now_ms: int) -> int:
    """What a value that `When` let through means."""
    date = _date(value)
    return max(0, int(date.timestamp() * 1000) if date else now_ms - (age_ms(value) or 0))


def moment_at(value: str | None, store: ContextStore) -> datetime | None:
    """The same as a datetime; None stays None, and asks no server."""
    return None if value is None else datetime.fromtimestamp(moment_ms(value, server_now_ms(store)) / 1000, UTC)


def _date(value: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo is not None else None
