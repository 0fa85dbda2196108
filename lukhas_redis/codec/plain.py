"""The slow look at data: converts what has a documented conversion, and names the place of what has none.

What belongs here: rules for Enum, dataclass, pydantic model, Mapping and subclasses, and every refusal with its path.
What does not: the fast check that lets ordinary data skip this module (`shape.fits`), bytes (`serialize`).
Invariant: the result holds only the exact types of `values`, within all limits, and shares nothing mutable with the
caller's data that was converted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from lukhas_redis.codec.convert import converter
from lukhas_redis.codec.limits import CodecLimits
from lukhas_redis.codec.pointer import pointer
from lukhas_redis.codec.values import CONTAINERS, EXTENDED, SCALARS, to_wire
from lukhas_redis.errors import ContextTooLarge, SerializationError


def to_plain(data: Any, limits: CodecLimits, outer: int = 0) -> Any:
    """Return `data` as exact, storable types, equal to it up to the documented conversions.

    `outer`: levels of other containers around it, which count against `max_depth`.
    Raises: SerializationError (do not retry) with the RFC 6901 pointer of the offending value in `fields["path"]`;
    ContextTooLarge (do not retry) when there are too many items or too much text.
    """
    walk = _Walk(limits)
    try:
        return walk.value(data, 1 + outer)
    except RecursionError:
        walk.refuse("converting it does not end")


class _Walk:
    """One walk over one context; `path` is where it stands."""

    __slots__ = ("items", "limits", "opened", "path", "size")

    def __init__(self, limits: CodecLimits) -> None:
        self.limits = limits
        self.path: list[Any] = []
        self.opened: dict[int, int] = {}  # id of every object around this place -> length of its path
        self.items = 0
        self.size = 0

    def refuse(self, why: str, cause: BaseException | None = None) -> NoReturn:
        """Raise the error that names this place."""
        path = pointer(self.path)
        raise SerializationError(f"cannot store the value at {path or 'the top'}: {why}", path=path) from cause

    def value(self, value: Any, depth: int) -> Any:
        """Return one value of any kind in its plain form."""
        kind = type(value)
        if kind is str:
            return self._text(value)
        if kind is bytes:
            self._grow(len(value))
            return value
        if kind in SCALARS or kind in EXTENDED:
            return self._leaf(value)
        return self._inside(value, depth)

    def _text(self, text: str) -> str:
        self._grow(len(text))
        try:
            text.encode()
        except UnicodeEncodeError as error:
            self.refuse(f"lone surrogate U+{ord(text[error.start]):04X} at character {error.start}", error)
        return text

    def _leaf(self, value: Any) -> Any:
        if type(value) is int or type(value) in EXTENDED:
            try:
                wire = to_wire(value)
            except Exception as error:  # noqa: BLE001 - a tzinfo is the caller's code and may raise anything
                self.refuse(str(error), error)
            self._grow(len(wire[1]))
        return value

    def _inside(self, value: Any, depth: int) -> Any:
        """Go into a container, or into what a value is converted to; neither may contain itself."""
        if id(value) in self.opened:
            self.refuse(f"circular reference to {pointer(self.path[: self.opened[id(value)]]) or 'the top'}")
        self.opened[id(value)] = len(self.path)
        plain = self._container(value, depth) if type(value) in CONTAINERS else self._converted(value, depth)
        del self.opened[id(value)]
        return plain

    def _converted(self, value: Any, depth: int) -> Any:
        convert: Callable[[Any], Any] | None = converter(type(value))
        if convert is None:
            self.refuse(f"type {type(value).__qualname__} is not supported")
        try:
            converted = convert(value)
        except Exception as error:  # noqa: BLE001 - the caller's own model code runs here
            self.refuse(f"converting {type(value).__qualname__} failed: {error}", error)
        return self.value(converted, depth)

    def _container(self, value: Any, depth: int) -> Any:
        if depth > self.limits.max_depth:
            self.refuse(f"nested deeper than {self.limits.max_depth} levels")
        kind = type(value)
        self._count(len(value) + (kind is not dict and kind is not list))
        if kind is dict:
            return self._dict(value, depth + 1)
        plain = kind(self._elements(value, depth + 1))
        if len(plain) != len(value):
            self.refuse("two elements become the same when they are converted")
        return plain

    def _elements(self, elements: Iterable[Any], depth: int) -> list[Any]:
        plain = []
        for index, element in enumerate(elements):
            self.path.append(index)
            plain.append(self.value(element, depth))
            self.path.pop()
        return plain

    def _dict(self, value: dict[Any, Any], depth: int) -> dict[Any, Any]:
        plain: dict[Any, Any] = {}
        for key, item in value.items():
            self.path.append(key)
            plain_key = self._key(key, depth)
            if plain_key in plain:
                self.refuse("two keys become the same when they are converted")
            plain[plain_key] = self.value(item, depth)
            self.path.pop()
        return plain

    def _key(self, key: Any, depth: int) -> Any:
        plain = self.value(key, depth)
        try:
            hash(plain)
        except TypeError as error:
            self.refuse(f"a dict key of type {type(key).__qualname__} becomes a value that cannot be a key", error)
        return plain

    def _count(self, items: int) -> None:
        self.items += items
        if self.items > self.limits.max_items:
            limit = self.limits.max_items
            raise ContextTooLarge(f"the data has more than max_items={limit} items", limit_items=limit)

    def _grow(self, size: int) -> None:
        self.size += size
        if self.size > self.limits.max_context_size_bytes:
            raise too_large(self.size, self.limits, at_least=True)


def too_large(size_bytes: int, limits: CodecLimits, *, at_least: bool = False) -> ContextTooLarge:
    """Return the error for data over the size limit; `at_least` when counting stopped there."""
    limit = limits.max_context_size_bytes
    prefix = "at least " if at_least else ""
    message = f"the serialized data has {prefix}{size_bytes} bytes, the limit is max_context_size_bytes={limit}"
    return ContextTooLarge(message, size_bytes=size_bytes, limit_bytes=limit)
