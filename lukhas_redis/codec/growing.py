"""A view that grows in place while nobody is looking at it.

What belongs here: telling whether anybody holds a part of a view, and adding to its list when nobody does. What does
not: what a change means (`changes`).
Invariant: a view that somebody else can reach is never changed; he keeps what he was given, and a new view is made.

To copy a list of 9,000 messages for every new one costs 300 us, most of it in touching each message's reference count
(once for the copy, once for the list that goes). CPython says how many references an object has: when every container
on the way has only its parent's, nobody can notice that it grows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from lukhas_redis.codec.changes import Append, Change, applied
from lukhas_redis.codec.paths import Path
from lukhas_redis.codec.views import ReadOnlyDict, ReadOnlyList, read_only

_count: Callable[[Any], int] | None = getattr(sys, "getrefcount", None)
if not getattr(sys, "_is_gil_enabled", lambda: True)():
    # Without the global lock the number says less than it seems to.
    _count = None


def grow(box: list[ReadOnlyDict], change: Change) -> ReadOnlyDict:
    """Return the view in `box` (which is emptied) after `change`; the caller gives up its own references before.

    Raises: ContextCorrupted when the change does not fit; see `changes.applied`.
    """
    view = box.pop()
    if isinstance(change, Append) and _count is not None:
        found = _held_by_nobody(view, change.path)
        if found is not None:
            list.extend(found, list(map(read_only, change.items)))
            return view
    return applied(view, change)


def _held_by_nobody(view: Any, path: Path) -> ReadOnlyList | None:
    """The list at `path`, when it and all around it have no references but those of their parents and of ours."""
    counts = _counts(view, path)
    if counts is None or counts[0] > _ROOT or max(counts[1:]) > _INNER:
        return None
    for step in path:
        view = view[step]
    return view if type(view) is ReadOnlyList else None


def _counts(at: Any, path: Path) -> list[int] | None:
    count: Any = _count
    counts = [count(at)]
    for step in path:
        try:
            at = at[step]
        except (KeyError, IndexError, TypeError):
            return None
        counts.append(count(at))
    return counts


def _measured() -> tuple[int, int]:
    """The numbers for a view that nobody holds, found as `grow` finds them: they differ between versions of Python."""
    box = [ReadOnlyDict({"a": ReadOnlyDict({"b": ReadOnlyList([0])})})]
    view = box.pop()
    return _through(view, ("a", "b"))


def _through(view: Any, path: Path) -> tuple[int, int]:
    counts = _counts(view, path) or [0, 0]
    return counts[0], max(counts[1:])


_ROOT, _INNER = _measured() if _count is not None else (0, 0)
