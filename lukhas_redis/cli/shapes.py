"""The JSON objects that commands print: stable names, one shape per kind of value.

What belongs here: from the store's results to plain dicts. What does not: tables (each command has its own), errors
(`failures`).
Invariant: a name once printed keeps its meaning; times are milliseconds of the server's clock, sizes are bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime, time, timedelta
from typing import Any

from lukhas_redis.models import Appended, Checked, Event, Hop, Lease, Metadata, Stats


def context(known: Metadata) -> dict[str, Any]:
    """One context without its data."""
    names = (
        "context_id", "session_id", "context_type", "owner", "version", "incarnation", "created_ms", "updated_ms",
        "expires_ms", "accessed_ms", "hop_count", "pinned", "raw_bytes", "stored_bytes", "compression", "checksum",
        "segments", "appended_bytes", "chain",
    )  # fmt: skip
    facts = {name: getattr(known, name) for name in names}
    held = lease(known.lease) if known.lease else None
    return {**facts, "lease": held, "ttl_left_ms": known.expires_ms - known.now_ms}


def lease(held: Lease) -> dict[str, Any]:
    """Who alone may write a context."""
    return {"owner": held.owner, "token": held.token, "until_ms": held.until_ms}


def appended(done: Appended) -> dict[str, Any]:
    """What an append or a patch did."""
    names = ("context_id", "version", "incarnation", "expires_ms", "evicted", "dry_run")
    return {name: getattr(done, name) for name in names}


def hop(one: Hop) -> dict[str, Any]:
    """One handoff."""
    return asdict(one)


def event(one: Event) -> dict[str, Any]:
    """One lifecycle event."""
    return {**asdict(one), "at_ms": one.at_ms}


def stats(found: Stats) -> dict[str, Any]:
    """A tenant's use, limits and mode."""
    names = ("tenant", "mode", "policy", "live", "expired", "bytes", "max_entries", "max_bytes", "pressure", "alert")
    shards = [
        {"shard": one.shard, "live": one.live, "expired": one.expired, "tombs": one.tombs, "events": one.events}
        for one in found.shards
    ]
    totals = {name: value for name, value in sorted(found.totals.items()) if not name.startswith("rate_")}
    return {**{name: getattr(found, name) for name in names}, "totals": totals, "shards": shards}


def accounts(found: Checked) -> dict[str, Any]:
    """What `check` or `repair` found."""
    faults = [asdict(fault) for fault in found.faults]
    off = {"bytes_off": found.bytes_off, "entries_off": found.entries_off}
    return {"sound": found.sound, "repaired": found.repaired, "dry_run": found.dry_run, "faults": faults, **off}


def data(value: Any) -> Any:
    """Context data for people and for `jq`: what JSON lacks becomes text or lists. Not meant to be read back.

    Bytes become base64; times ISO 8601; a timedelta seconds; sets and tuples lists (sets sorted by their text); dict
    keys that are no text become text.
    """
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else str(key): data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [data(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((data(item) for item in value), key=str)
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        # JSON has no word for these three.
        return value if value - value == 0 else str(value)
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)
