"""A context's data as msgpack bytes and back.

What belongs here: the order of checks around packing and unpacking, and how failures are told. What does not: which
types exist (`values`), conversions and paths (`plain`), limits on structure (`shape`), checksums (`envelope`).
Invariant: `deserialize(serialize(data))` equals `data` with equal types, up to the conversions of `convert`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgpack

from lukhas_redis.codec.limits import DEFAULT_LIMITS, CodecLimits
from lukhas_redis.codec.plain import to_plain, too_large
from lukhas_redis.codec.scan import Refused
from lukhas_redis.codec.shape import check_depth, check_packed, fits, may_have_marks
from lukhas_redis.codec.values import Reader, pack
from lukhas_redis.errors import ContextCorrupted, LukhasRedisError, SerializationError

# msgpack has its own timestamp type, which we never write. Read as a float it stays a type of ours.
_TIMESTAMP_AS_FLOAT: Final = 1


def serialize(data: Mapping[Any, Any], limits: CodecLimits = DEFAULT_LIMITS) -> bytes:
    """Return the msgpack bytes of `data`, at most `limits.max_context_size_bytes` of them.

    After a failure nothing was changed, neither here nor in `data`.
    Raises: SerializationError (do not retry) naming the path in `fields["path"]`; ContextTooLarge (do not retry).
    """
    if not isinstance(data, Mapping):
        raise SerializationError(f"a context must be a dict, got {type(data).__qualname__}", path="")
    return packed(data, limits)


def packed(data: Mapping[Any, Any] | list[Any], limits: CodecLimits, outer: int = 0) -> bytes:
    """Return the msgpack bytes of a dict or list that stands `outer` levels inside a context; else as `serialize`."""
    raw = _pack_as_is(data, limits.inside(outer)) if type(data) is dict or type(data) is list else None
    if raw is None:
        raw = _pack_converted(data, limits, outer)
    if len(raw) > limits.max_context_size_bytes:
        raise too_large(len(raw), limits)
    return raw


def _pack_as_is(data: dict[Any, Any] | list[Any], limits: CodecLimits) -> bytes | None:
    """Return the packed bytes of data that needs no conversion, None when anything at all is unusual."""
    try:
        return pack(data) if fits(data, limits) else None
    except Exception:  # noqa: BLE001 - whatever it was, the slow walk meets it again and names its place
        return None


def _pack_converted(data: Mapping[Any, Any] | list[Any], limits: CodecLimits, outer: int) -> bytes:
    try:
        return pack(to_plain(data, limits, outer))
    except (LukhasRedisError, MemoryError):
        raise
    except Exception as error:  # a container that another thread changes meanwhile
        raise SerializationError(f"the data cannot be serialized: {error}", path="") from error


def deserialize(raw: bytes, limits: CodecLimits = DEFAULT_LIMITS) -> dict[Any, Any]:
    """Return the data that `serialize` made `raw` of. `raw` may come from anybody: a bomb is refused before it grows.

    Raises: ContextCorrupted (do not retry): not what `serialize` writes, or over a limit;
    UnsupportedFormat: a time zone this machine does not know (retry when tzdata is installed).
    """
    data: dict[Any, Any] = unpacked(raw, limits, (dict,))
    return data


def unpacked(raw: bytes, limits: CodecLimits, tops: tuple[type, ...], reader: Reader | None = None) -> Any:
    """Return the data of `raw`, made by `reader` and at its top one of `tops`; checks and errors of `deserialize`."""
    if len(raw) > limits.max_context_size_bytes:
        raise _corrupted(f"{len(raw)} bytes are over max_context_size_bytes={limits.max_context_size_bytes}")
    try:
        return _unpack(raw, limits, tops, reader or Reader())
    except (LukhasRedisError, MemoryError):
        raise
    except Exception as error:  # forged bytes make msgpack and the value types raise almost anything
        raise _corrupted(str(error) or type(error).__name__) from error


def _unpack(raw: bytes, limits: CodecLimits, tops: tuple[type, ...], reader: Reader) -> Any:
    depth_is_known = check_packed(raw, limits)
    marks = may_have_marks(raw)
    data = msgpack.unpackb(
        raw,
        strict_map_key=False,
        timestamp=_TIMESTAMP_AS_FLOAT,
        ext_hook=reader.extension,
        **reader.hooks(marks=marks),
    )
    reader.finish()
    if not isinstance(data, tops):
        raise Refused(f"not a {tops[0].__name__}")
    if not depth_is_known:
        check_depth(data, limits, keys=marks, kinds=reader.containers)
    return data


def _corrupted(why: str) -> ContextCorrupted:
    return ContextCorrupted(f"stored data cannot be decoded: {why}", reason="undecodable")
