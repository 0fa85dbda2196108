"""Packages that only comparisons need, and that may be missing.

What belongs here: finding one, saying that it is absent. What does not: using it. Invariant: nothing but the standard
library is imported here, so a comparison can run on an interpreter that has its package and little else.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any


class AbsentError(Exception):
    """A side that cannot take part here, and why."""


def needed(module: str, package: str) -> Any:
    """A module of an optional package.

    Raises:
        AbsentError: It is not installed, or does not work with what is.
    """
    try:
        version(package)
    except PackageNotFoundError:
        raise AbsentError("not installed") from None
    try:
        return import_module(module)
    except ImportError as error:
        raise AbsentError(f"cannot be imported: {error}") from error
