"""Decoded contexts that many callers may share, because nobody can change them.

What belongs here: read-only dict, list and set, how they are made of packed bytes or plain data, and how they become
plain again. What does not: who keeps a view, and for how long (the near cache), what a change makes of one (`changes`).
Invariant: no method and no operator of a view changes it, and everything inside a view of this module's making is
read-only too. (`list.append(view, 1)` does change it: this stops mistakes, not intent.)

A view is a real dict, list or set and equal to it, so `json.dumps`, `isinstance` and pattern matching see no
difference. Whatever makes a new object of it (copy, slice, `|`, `+`, pickle) makes a plain one.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from sys import getsizeof
from typing import Any, ClassVar, Final, NoReturn, final

from lukhas_redis.codec.limits import DEFAULT_LIMITS, CodecLimits
from lukhas_redis.codec.serialize import unpacked
from lukhas_redis.codec.values import ATOMS, CONTAINERS, SCALARS, Reader

_LEAVES: Final = ATOMS | {str, bytes, frozenset}
# Long lists of numbers are told by the set of their types; a float has 24 bytes, an int up to 64 bit has 36 at most.
_LONG: Final = 16
_SCALAR_BYTES: Final = 32


def _refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
    raise TypeError("a shared view is read-only; restore(..., shared=False) or copy.deepcopy(...) gives a private copy")


_refused: Any = _refuse  # fits every signature


@final
class ReadOnlyDict(dict[Any, Any]):
    """A dict that raises TypeError when it is changed; its values are as given, see `read_only`."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> ReadOnlyDict:
        """Take the arguments of dict."""
        return dict_view(dict(*args, **kwargs))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass  # the inherited one would fill it again

    __setitem__ = __delitem__ = __ior__ = _refused
    clear = pop = popitem = setdefault = update = fromkeys = _refused

    def __copy__(self) -> dict[Any, Any]:
        return dict(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, Any]:
        return {key: item if type(item) in _LEAVES else _mutable(item, memo) for key, item in self.items()}

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (deepcopy(self),)


@final
class ReadOnlyList(list[Any]):
    """A list that raises TypeError when it is changed; its elements are as given, see `read_only`."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> ReadOnlyList:
        """Take the arguments of list."""
        return list_view(list(*args))

    def __init__(self, *args: Any) -> None:
        pass  # the inherited one would fill it again

    __setitem__ = __delitem__ = __iadd__ = __imul__ = _refused
    append = clear = extend = insert = pop = remove = reverse = sort = _refused

    def __copy__(self) -> list[Any]:
        return self[:]

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [item if type(item) in _LEAVES else _mutable(item, memo) for item in self]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (deepcopy(self),)


@final
class ReadOnlySet(set[Any]):
    """A set that raises TypeError when it is changed."""

    __slots__ = ()

    def __new__(cls, *args: Any) -> ReadOnlySet:
        """Take the arguments of set."""
        return set_view(set(*args))

    def __init__(self, *args: Any) -> None:
        pass  # the inherited one would fill it again

    __iand__ = __ior__ = __isub__ = __ixor__ = _refused
    add = clear = discard = pop = remove = update = _refused
    difference_update = intersection_update = symmetric_difference_update = _refused

    def copy(self) -> set[Any]:
        """Return a plain set."""
        return set(self)

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> set[Any]:
        return set(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return set, (set(self),)


def _mutable(value: Any, memo: dict[int, Any]) -> Any:
    # Past `deepcopy` for our own types: a third of its time, and a tree has no object twice to look for.
    kind = type(value)
    if kind is ReadOnlyDict or kind is ReadOnlyList or kind is ReadOnlySet:
        return value.__deepcopy__(memo)
    return deepcopy(value, memo)


# -- making them -------------------------------------------------------------------------------------------


def dict_view(data: dict[Any, Any]) -> ReadOnlyDict:
    """Return a read-only dict with the same keys and values."""
    view = dict.__new__(ReadOnlyDict)
    dict.update(view, data)
    return view


def list_view(data: list[Any]) -> ReadOnlyList:
    """Return a read-only list with the same elements."""
    view = list.__new__(ReadOnlyList)
    list.extend(view, data)  # copied as a block only when `data` is exactly a list or tuple
    return view


def set_view(data: set[Any]) -> ReadOnlySet:
    """Return a read-only set with the same elements."""
    view = set.__new__(ReadOnlySet)
    set.update(view, data)
    return view


def read_only(value: Any) -> Any:
    """Return a read-only copy of a tree of plain dicts, lists, sets and tuples; anything else comes back as it is."""
    make = _MAKERS.get(type(value))
    return value if make is None else make(value)


_MAKERS: Final[dict[type, Callable[[Any], Any]]] = {
    dict: lambda data: dict_view({key: read_only(item) for key, item in data.items()}),
    list: lambda data: list_view(list(map(read_only, data))),
    tuple: lambda data: tuple(map(read_only, data)),
    set: set_view,
}


def view_of(raw: bytes, limits: CodecLimits = DEFAULT_LIMITS) -> tuple[ReadOnlyDict, int]:
    """Return what `deserialize` returns as a read-only view, and about how many bytes of memory it holds.

    Built read-only from the bytes: no plain copy comes first. Raises: as `deserialize`.
    """
    reader = _ViewReader()
    view: ReadOnlyDict = unpacked(raw, limits, (dict,), reader)
    return view, getsizeof(view) + reader.memory_bytes()


class _ViewReader(Reader):
    """Makes views while unpacking, and adds up what is in them."""

    __slots__ = ("_item_bytes", "_keys")
    containers: ClassVar[frozenset[type]] = CONTAINERS | {ReadOnlyDict, ReadOnlyList, ReadOnlySet}

    def __init__(self) -> None:
        super().__init__()
        self._item_bytes = 0
        self._keys: set[Any] = set()  # the unpacker interns keys: each is in memory once

    def hooks(self, *, marks: bool) -> dict[str, Callable[[Any], Any]]:
        return {"object_hook": self.mapping, "list_hook": self.marked if marks else self.elements}

    def mapping(self, data: dict[Any, Any]) -> ReadOnlyDict:
        """Return the view of one dict."""
        self._keys.update(data)
        self._item_bytes += sum(map(getsizeof, data.values()))
        return dict_view(data)

    def elements(self, data: list[Any]) -> ReadOnlyList:
        """Return the view of one list."""
        self._item_bytes += _bytes_of(data)
        return list_view(data)

    def marked(self, data: list[Any]) -> Any:
        """Return the view of one list, or the tuple, set or frozenset that it stands for."""
        value = self.array(data)
        if value is data:
            return self.elements(data)
        self._item_bytes += _bytes_of(value)
        return set_view(value) if type(value) is set else value

    def memory_bytes(self) -> int:
        """Return the bytes of all that was made so far but for the outermost container itself."""
        return self._item_bytes + sum(map(getsizeof, self._keys))


def _bytes_of(items: Any) -> int:
    if len(items) >= _LONG and set(map(type, items)) <= SCALARS:
        return _SCALAR_BYTES * len(items)
    return sum(map(getsizeof, items))


# -- new views from old ones -------------------------------------------------------------------------------


def grown(view: list[Any], items: list[Any]) -> ReadOnlyList:
    """Return a view of both lists, one after the other, without looking at the elements of `view`."""
    return list_view(list.__add__(view, items))


def with_item(view: Any, place: Any, item: Any) -> Any:
    """Return a dict view, list view or tuple that is `view` but for the item at the existing `place`."""
    if isinstance(view, dict):
        return dict_view({**view, place: item})
    parts = list.copy(view) if isinstance(view, list) else list(view)
    parts[place] = item
    return tuple(parts) if isinstance(view, tuple) else list_view(parts)
