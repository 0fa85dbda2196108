"""One finding, and how a check that cannot be made becomes one.

What belongs here: the value every check returns. What does not: checks.
Invariant: a finding that is not ok says what to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found on one server (or of the tenant, when `server` is None), and what to do about it."""

    check: str
    status: Status
    found: str
    advice: str = ""
    server: str | None = None


def unknown(check: str, error: object, advice: str, server: str | None = None) -> Finding:
    """The finding of a check that could not be made."""
    return Finding(check, "warn", f"not known: {error}", advice, server)
