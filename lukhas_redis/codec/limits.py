"""How large and how deep one context may be, checked on the way in and on the way out.

What belongs here: the limits of the codec, with their units and the reason for each number. What does not: the
checking itself (`shape` for structure, `envelope` for bytes), and where a deployment sets them (`settings`).
Invariant: what `serialize` accepts under some limits, `deserialize` accepts under the same limits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from lukhas_redis.errors import InvalidArgument

# The C packer gives up at 511 levels and the C unpacker at 1,024; our own limit has to be met before theirs.
DEEPEST = 400
# LZ4 blocks and Redis strings both end a little above this.
LARGEST_BYTES = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CodecLimits:
    """The limits of one encode or decode call.

    `max_context_size_bytes`: 1..536,870,912 bytes of serialized data, before compression.
    `max_depth`: 1..400 levels of dict, list, tuple, set and frozenset; the outermost dict is level 1, values that
    are no containers add no level, a container used inside a dict key counts as one inside the dict.
    `max_items`: elements of all lists, tuples and sets plus values of all dicts, nested ones included (keys are not
    counted; a tuple, set or frozenset counts one more than it holds). It bounds memory: 10 MB of empty dicts would
    need 700 MB. The default lets 10 MB of floats (1.2 million) and 300,000 short messages pass.
    Raises: InvalidArgument (do not retry) when a limit is outside its range.
    """

    max_context_size_bytes: int = 10_485_760
    max_depth: int = 50
    max_items: int = 1_500_000

    def __post_init__(self) -> None:
        _in_range("max_context_size_bytes", self.max_context_size_bytes, LARGEST_BYTES)
        _in_range("max_depth", self.max_depth, DEEPEST)
        _in_range("max_items", self.max_items, LARGEST_BYTES)

    def inside(self, levels: int) -> CodecLimits:
        """The limits of what stands `levels` (0..max_depth - 1) deep inside a context."""
        return _inside(self, levels) if levels else self


@lru_cache(maxsize=256)
def _inside(limits: CodecLimits, levels: int) -> CodecLimits:
    return replace(limits, max_depth=limits.max_depth - levels)


def _in_range(name: str, value: int, highest: int) -> None:
    if type(value) is not int or not 1 <= value <= highest:
        raise InvalidArgument(f"{name} must be an int in 1..{highest}, got {value!r}", argument=name)


DEFAULT_LIMITS = CodecLimits()
