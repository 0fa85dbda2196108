"""The place of a value inside a context, as an RFC 6901 JSON pointer.

What belongs here: writing a pointer for an error message. What does not: reading one (`paths`).
Invariant: a pointer is short printable text, whatever the keys on its way are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

_LONGEST_TOKEN: Final = 64
_PRINTED: Final = (int, float, bool, bytes, type(None))


def pointer(path: Iterable[Any]) -> str:
    """Return `path` (keys and indexes) as a pointer; "" is the whole. Keys that are no text are shown by repr or type.

    Elements of a set have no index of their own: theirs is their place in iteration.
    """
    return "".join("/" + _token(part) for part in path)


def _token(part: Any) -> str:
    text = part if isinstance(part, str) else _shown(part)
    text = text[: _LONGEST_TOKEN + 1].replace("~", "~0").replace("/", "~1")
    text = text.encode("ascii", "backslashreplace").decode() if not text.isprintable() else text
    return text if len(text) <= _LONGEST_TOKEN else text[:_LONGEST_TOKEN] + "..."


def _shown(part: Any) -> str:
    if type(part) is int and part.bit_length() > 128:  # Python refuses to print very long ints
        return "<int>"
    return repr(part) if type(part) in _PRINTED else f"<{type(part).__name__}>"
