"""Changes of a part of a context: what they are as bytes, and what they make of data.

What belongs here: append and merge patch (RFC 7396), their packed form, applying them to private data and to views.
What does not: sealing and chaining the bytes (`segments`), finding a path (`paths`), who may write (ops, Lua).
Invariant: `apply` on plain data and `applied` on a view of it give equal results; a view that was there before never
changes.

| change | is packed as |
|---|---|
| Append | array: the steps of the path, then the array of items |
| Patch | map: the merge patch |

So the first byte tells them apart and nothing is wrapped. Limits: an item stands `len(path)` levels deeper than in its
list, and counts so against `max_depth`; a patch merges into the same depth, so its own depth within `max_depth` is
enough. Size and items of the folded whole are not known here: the caller counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from msgpack import Packer

from lukhas_redis.codec.limits import DEFAULT_LIMITS, CodecLimits
from lukhas_redis.codec.paths import Path, checked_path, list_at
from lukhas_redis.codec.plain import too_large
from lukhas_redis.codec.scan import Refused
from lukhas_redis.codec.serialize import packed, unpacked
from lukhas_redis.codec.shape import check_depth, check_packed, is_shallow
from lukhas_redis.codec.values import ATOMS, pack
from lukhas_redis.codec.views import ReadOnlyDict, dict_view, grown, read_only, with_item
from lukhas_redis.errors import ContextCorrupted, ContextTooLarge, InvalidArgument, InvalidPath

_SCALARS: Final = ATOMS | {str, bytes}


@dataclass(frozen=True, slots=True)
class Append:
    """Items added at the end of the list at a resolved path."""

    path: Path
    items: list[Any]


@dataclass(frozen=True, slots=True)
class Patch:
    """An RFC 7396 merge patch: None deletes, dicts merge, everything else replaces."""

    merge: dict[Any, Any]


Change: TypeAlias = Append | Patch


# -- bytes -------------------------------------------------------------------------------------------------


def pack_change(change: Change, limits: CodecLimits = DEFAULT_LIMITS) -> bytes:
    """Return the msgpack bytes of `change`; its data is converted as `serialize` does, and not changed.

    Raises, none of them to be retried: SerializationError (`fields["path"]` is the place inside the items or the
    patch), ContextTooLarge, InvalidPath, InvalidArgument for items or a patch of another type, or empty.
    """
    return _pack_append(change, limits) if isinstance(change, Append) else _pack_patch(change.merge, limits)


def _pack_append(change: Append, limits: CodecLimits) -> bytes:
    _check_filled("items", change.items, (list, tuple), "a list or tuple")
    path = checked_path(change.path, limits)
    if not path or isinstance(path, str):
        raise InvalidPath("an append needs the resolved path of a list inside the context", path=path or "")
    items = packed(list(change.items), limits, len(path))
    raw = b"".join((Packer().pack_array_header(len(path) + 1), *map(pack, path), items))
    if len(raw) > limits.max_context_size_bytes:
        raise too_large(len(raw), limits)
    try:
        check_packed(raw, limits)  # the path counts too, and what is written must be readable
    except Refused:
        limit = limits.max_items
        raise ContextTooLarge(f"the append has more than max_items={limit} items", limit_items=limit) from None
    return raw


def _pack_patch(merge: Any, limits: CodecLimits) -> bytes:
    _check_filled("merge_patch", merge, (Mapping,), "a dict")
    return packed(merge, limits)


def _check_filled(argument: str, value: Any, kinds: tuple[type, ...], wanted: str) -> None:
    if not isinstance(value, kinds) or not value:
        got = f"an empty {type(value).__qualname__}" if isinstance(value, kinds) else type(value).__qualname__
        raise InvalidArgument(f"{argument} must be {wanted} with something in it, got {got}", argument=argument)


def unpack_change(raw: bytes, limits: CodecLimits = DEFAULT_LIMITS) -> Change:
    """Return the change of `pack_change`, made of new objects. `raw` may come from anybody, see `deserialize`.

    Raises: ContextCorrupted (do not retry) for what `pack_change` does not write, UnsupportedFormat.
    """
    data = unpacked(raw, limits, (dict, list))
    if not data:
        raise _corrupted("it is empty")
    return Patch(data) if isinstance(data, dict) else _append_of(data, raw, limits)


def _append_of(data: list[Any], raw: bytes, limits: CodecLimits) -> Append:
    *path, items = data
    if not 1 <= len(path) < limits.max_depth or type(items) is not list or not items:
        raise _corrupted("it is no append")
    try:
        hash(tuple(path))
        inside = limits.inside(len(path))
        if not is_shallow(raw, inside):  # which a look at the bytes tells of most, in a fifth of the time
            check_depth(items, inside, keys=True)
    except (TypeError, ValueError, Refused) as error:
        raise _corrupted(str(error)) from error
    return Append(tuple(path), items)


# -- on private data ---------------------------------------------------------------------------------------


def apply(data: dict[Any, Any], change: Change) -> None:
    """Change plain `data` in place. It takes over the objects of `change`: unpack a new one for every copy of the data.

    Raises: ContextCorrupted when the path is not there, which the writer had checked; `data` is then as before.
    """
    if isinstance(change, Append):
        _list_for(data, change).extend(change.items)
    else:
        _merge(data, change.merge)


def _merge(target: dict[Any, Any], patch: dict[Any, Any]) -> None:
    for key, new in patch.items():
        if new is None:
            target.pop(key, None)
        elif isinstance(new, dict):
            if not isinstance(target.get(key), dict):
                target[key] = {}
            _merge(target[key], new)
        else:
            target[key] = new


def _list_for(data: Any, change: Append) -> list[Any]:
    try:
        return list_at(data, change.path)
    except InvalidPath as error:
        raise _corrupted(error.message) from error


def _corrupted(why: str) -> ContextCorrupted:
    return ContextCorrupted(f"a stored change does not fit: {why}", reason="segment")


# -- on views ----------------------------------------------------------------------------------------------


def applied(view: ReadOnlyDict, change: Change) -> ReadOnlyDict:
    """Return the view after `change`; `view` and `change` stay as they are, and what did not change is shared.

    Costs the containers along the path, not their content: a block copy of 8 bytes per element.
    Raises: as `apply`.
    """
    if isinstance(change, Patch):
        return _merged(view, change.merge)
    new: Any = grown(_list_for(view, change), list(map(read_only, change.items)))
    around: list[Any] = [view]
    for step in change.path[:-1]:
        around.append(around[-1][step])
    for container, step in zip(reversed(around), reversed(change.path), strict=True):
        new = with_item(container, step, new)
    result: ReadOnlyDict = new
    return result


def _merged(view: dict[Any, Any], patch: dict[Any, Any]) -> ReadOnlyDict:
    merged = dict(view)
    for key, new in patch.items():
        if new is None:
            merged.pop(key, None)
        elif isinstance(new, dict):
            inner = view.get(key)
            merged[key] = _merged(inner if isinstance(inner, dict) else {}, new)
        else:
            merged[key] = read_only(new)
    return dict_view(merged)


# -- what an append may rely on ----------------------------------------------------------------------------


def changes_shape(data: Mapping[Any, Any], merge: Mapping[Any, Any]) -> bool:
    """Return False only when `merge` does nothing but replace existing scalars by scalars, at any depth of dicts.

    Then every path that led to a list still does. To add, delete or replace anything else is a change of shape; to
    delete what is not there is no change. Types that are still to be converted count as containers.
    """
    return any(_one_changes_shape(data, key, new) for key, new in merge.items())


def _one_changes_shape(data: Mapping[Any, Any], key: Any, new: Any) -> bool:
    if key not in data:
        return new is not None
    old = data[key]
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return changes_shape(old, new)
    return new is None or type(new) not in _SCALARS or type(old) not in _SCALARS
