"""Whether what came back is what was put in: value for value, type for type.

What belongs here: the comparison, independent of the store's own codec. What does not: reading the store.
Invariant: two values have the same fingerprint only if they are equal, have equal types throughout, and their dicts
equal order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

MOST_DIFFERENCES = 5


def fingerprint(value: Any) -> str:
    """SHA-256, in hex, of the canonical form of a value and its types."""
    return hashlib.sha256(canonical(value)).hexdigest()


def canonical(value: Any) -> bytes:
    """A value as bytes: each part with its type and length, so that no two different values look alike."""
    kind = type(value).__name__
    if isinstance(value, Mapping):
        body = b"".join(canonical(key) + canonical(item) for key, item in value.items())
    elif isinstance(value, AbstractSet):
        body = b"".join(sorted(canonical(item) for item in value))
    elif isinstance(value, list | tuple):
        body = b"".join(map(canonical, value))
    elif isinstance(value, bytes):
        body = value
    else:
        body = (value if isinstance(value, str) else repr(value)).encode("utf-8", "surrogatepass")
    return f"{kind}:{len(body)}:".encode() + body


def differences(expected: Any, actual: Any, path: str = "") -> list[str]:
    """The first few places where two values differ, each with its path; empty when their fingerprints are equal."""
    if fingerprint(expected) == fingerprint(actual):
        return []
    return list(islice(_differing(expected, actual, path), MOST_DIFFERENCES))


def _differing(expected: Any, actual: Any, path: str) -> Iterator[str]:
    if fingerprint(expected) == fingerprint(actual):
        return
    if type(expected) is not type(actual):
        yield f"{path or '/'}: {type(expected).__name__} became {type(actual).__name__}"
    elif isinstance(expected, Mapping):
        yield from _in_mapping(expected, actual, path)
    elif isinstance(expected, list | tuple):
        yield from _in_sequence(expected, actual, path)
    else:
        yield f"{path or '/'}: {_short(expected)} became {_short(actual)}"


def _in_mapping(expected: Mapping[Any, Any], actual: Mapping[Any, Any], path: str) -> Iterator[str]:
    if list(expected) != list(actual):
        yield f"{path or '/'}: keys {_short(list(expected))} became {_short(list(actual))}"
    for key in expected:
        if key in actual:
            yield from _differing(expected[key], actual[key], f"{path}/{key}")


def _in_sequence(expected: Sequence[Any], actual: Sequence[Any], path: str) -> Iterator[str]:
    if len(expected) != len(actual):
        yield f"{path or '/'}: {len(expected)} items became {len(actual)}"
    for place, (one, other) in enumerate(zip(expected, actual, strict=False)):
        yield from _differing(one, other, f"{path}/{place}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
