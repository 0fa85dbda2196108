"""Patterns of event names: `*` stands for any text, `?` for one character, everything else for itself.

What belongs here: from a user's pattern to the server's, which `lua/claim.lua` matches, and to one matched here. What
does not: who asks with which patterns.
Invariant: a pattern means the same wherever it is given; what a user writes never becomes an operator of a Lua pattern
or of a regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from lukhas_redis.errors import InvalidArgument

MAX_PATTERN = 128
MAX_STARS = 4


def lua_pattern(pattern: object) -> str:
    """The Lua pattern that matches what `pattern` does.

    Raises:
        InvalidArgument: It is no pattern of 1 to 128 characters with at most four `*`. A retry cannot help.
    """
    return "^" + "".join(_part(one) for one in checked_pattern(pattern)) + "$"


def checked_pattern(pattern: object) -> str:
    """The pattern itself.

    Raises:
        InvalidArgument: It is no pattern of 1 to 128 characters with at most four `*`. A retry cannot help.
    """
    if (
        not isinstance(pattern, str)
        or not 1 <= len(pattern) <= MAX_PATTERN
        or not pattern.isascii()
        or not pattern.isprintable()
    ):
        raise InvalidArgument(f"pattern {pattern!r:.80} is not text of 1 to {MAX_PATTERN} ASCII characters")
    if pattern.count("*") > MAX_STARS:
        raise InvalidArgument(f"pattern {pattern!r:.80} has over {MAX_STARS} stars")
    return pattern


def _part(one: str) -> str:
    if one == "*":
        return ".*"
    if one == "?":
        return "."
    return one if one.isalnum() else f"%{one}"


def lua_patterns(patterns: object) -> tuple[str, ...]:
    """As `lua_pattern`, for one or several.

    Raises:
        InvalidArgument: There is none, or one is malformed. A retry cannot help.
    """
    several = (patterns,) if isinstance(patterns, str) else tuple(patterns) if isinstance(patterns, Iterable) else ()
    if not 1 <= len(several) <= 32:
        raise InvalidArgument(f"{len(several)} patterns; 1 to 32 are allowed")
    return tuple(lua_pattern(one) for one in several)


def fitting(patterns: Iterable[object]) -> Callable[[str], bool]:
    """Whether a name fits one of the patterns; without any, each does.

    Raises:
        InvalidArgument: One of them is malformed. A retry cannot help.
    """
    wanted = [re.compile("".join(map(_regex, checked_pattern(one))), re.DOTALL) for one in patterns]
    return lambda name: not wanted or any(one.fullmatch(name) for one in wanted)


def _regex(one: str) -> str:
    return {"*": ".*", "?": "."}.get(one) or re.escape(one)
