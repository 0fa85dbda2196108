"""The way to a list inside a context, as its user writes it and as it is stored.

What belongs here: both forms of a path (a tuple of keys and indexes, an RFC 6901 pointer), walking one. What does not:
what is done at its end (`changes`), writing a pointer (`pointer`).
Invariant: nothing is guessed. A resolved path consists of keys and indexes that exist, so it means the same to every
reader.

A pointer can only name keys that are text; `("a", 3)` reaches the int key 3 of a dict, `/a/3` the key "3". An index is
0 or more and never "-": counting from the end would mean another element to a reader who has more of the list.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from lukhas_redis.codec.limits import DEFAULT_LIMITS, CodecLimits
from lukhas_redis.codec.plain import to_plain
from lukhas_redis.codec.pointer import pointer
from lukhas_redis.errors import ContextTooLarge, InvalidPath, SerializationError

Path: TypeAlias = tuple[Any, ...]

_BAD_ESCAPE: Final = re.compile(r"~(?![01])")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_SHOWN: Final = 64
_KINDS: Final = (dict, list, tuple, set, frozenset)


def checked_path(path: str | Sequence[Any], limits: CodecLimits = DEFAULT_LIMITS) -> str | Path:
    """Return `path` in an immutable form when it may be a path in some data: at most `max_depth - 1` steps.

    A pointer comes back as it is. The keys of a tuple or list are converted as `serialize` converts dict keys.
    Raises: InvalidPath (do not retry).
    """
    if isinstance(path, str):
        return _checked_pointer(str.__str__(path), limits)
    if not isinstance(path, (tuple, list)):
        kind = type(path).__qualname__
        raise InvalidPath(f"a path is a tuple of keys and indexes or an RFC 6901 pointer, got {kind}", path=f"<{kind}>")
    _check_length(len(path), pointer(path[:_SHOWN]), limits)
    return _checked_keys(path, limits)


def _checked_pointer(text: str, limits: CodecLimits) -> str:
    shown = ascii(text[:_SHOWN])[1:-1]
    if text and not text.startswith("/"):
        hint = "a pointer begins with '/': write '/messages' or ('messages',)"
        raise InvalidPath(f"{shown!r} is no path: {hint}", path=shown)
    if _BAD_ESCAPE.search(text):
        raise InvalidPath(f"{shown!r} is no path: '~' must be written '~0', and '/' inside a key '~1'", path=shown)
    if not _encodable(text):
        raise InvalidPath(f"{shown!r} is no path: it has a lone surrogate", path=shown)
    _check_length(text.count("/"), shown, limits)
    return text


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_length(steps: int, shown: str, limits: CodecLimits) -> None:
    most = limits.max_depth - 1
    if steps > most:
        why = f"it has {steps} steps, max_depth={limits.max_depth} allows {most}"
        raise InvalidPath(f"{shown} cannot exist: {why}", path=shown)


def _checked_keys(path: Sequence[Any], limits: CodecLimits) -> Path:
    try:
        keys = tuple(to_plain(list(path), limits))
        hash(keys)
    except (SerializationError, ContextTooLarge, TypeError, ValueError) as error:
        shown = pointer(path)
        raise InvalidPath(f"{shown} is no path, a step is no possible key or index: {error}", path=shown) from error
    return keys


def resolve(data: Any, path: str | Path) -> Path:
    """Return the keys and indexes that a checked `path` goes through in `data`; every one of them exists.

    Raises: InvalidPath (do not retry), saying how far it leads and what is there.
    """
    return _walk(data, path)[0]


def list_at(data: Any, path: str | Path) -> list[Any]:
    """Return the list itself that `path` leads to.

    Raises: InvalidPath (do not retry) when there is something else, or nothing.
    """
    steps, found = _walk(data, path)
    if not isinstance(found, list):
        place = pointer(steps)
        raise InvalidPath(f"{place or 'the top'} is {_kind(found)} and no list", path=place)
    return found


def _walk(data: Any, path: str | Path) -> tuple[Path, Any]:
    by_text = isinstance(path, str)
    done: list[Any] = []
    for step in _tokens(path) if isinstance(path, str) else path:
        place = _place(data, step, done, by_text=by_text)
        data = data[place]
        done.append(place)
    return tuple(done), data


def _place(data: Any, step: Any, done: list[Any], *, by_text: bool) -> Any:
    if isinstance(data, dict):
        return _key(data, step, done)
    if isinstance(data, (list, tuple)):
        return _index(data, step, done, by_text=by_text)
    raise _nowhere(done, step, f"is {_kind(data)}, which no path goes into")


def _tokens(text: str) -> list[str]:
    return [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:]]


def _key(data: dict[Any, Any], key: Any, done: list[Any]) -> Any:
    if key in data:
        return key
    hint = ""
    if isinstance(key, str) and _INDEX.fullmatch(key) and int(key) in data:
        hint = f" (it has the int key {key}: give the path as a tuple)"
    raise _nowhere(done, key, f"has no such key{hint}")


def _index(data: Sequence[Any], step: Any, done: list[Any], *, by_text: bool) -> int:
    kind = _kind(data)
    if by_text and step == "-":
        raise _nowhere(done, step, f"is {kind}: '-' (after its end) is no place yet; to append, name the list itself")
    if by_text:
        index = int(step) if _INDEX.fullmatch(step) else None
    else:
        index = step if type(step) is int and step >= 0 else None
    if index is None:
        raise _nowhere(done, step, f"is {kind}: its steps are whole numbers from 0, without sign or leading zeros")
    if index >= len(data):
        raise _nowhere(done, step, f"is {kind} of {len(data)}: there is no such index")
    return index


def _nowhere(done: list[Any], step: Any, why: str) -> InvalidPath:
    wanted = pointer([*done, step])
    return InvalidPath(f"there is no {wanted}: {pointer(done) or 'the top'} {why}", path=wanted)


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    kind = next((base for base in _KINDS if isinstance(value, base)), type(value))
    return f"{'an' if kind is int else 'a'} {kind.__qualname__}"
