"""What one store remembers of contexts: verified data (the near cache), and the lists it has seen inside them.

What belongs here: bounds, and turning remembered bytes into data. What does not: asking the server whether it is still
so (`reading`): nothing here is ever served without that.
Invariant: the content of what is held never changes; newer content takes its place as a whole.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from lukhas_redis.codec import (
    CodecLimits,
    Path,
    ReadOnlyDict,
    apply,
    deserialize,
    grow,
    unpack_change,
    view_of,
)
from lukhas_redis.models import Metadata

_KNOWN_CONTEXTS = 1000
KNOWN_LISTS = 64


class Parts:
    """The serialized body of a context and the serialized changes since, of which a `Held` uses the first so many.

    Several states of one context share this list: what is appended behind the end of one changes none of the others.
    """

    __slots__ = ("bytes", "list")

    def __init__(self, parts: Iterable[bytes]) -> None:
        self.list = list(parts)
        self.bytes = sum(map(len, self.list))

    def grown(self, count: int, changes: Sequence[bytes]) -> Parts:
        """The first `count` parts and `changes`: this list itself, unless another state has grown on it already."""
        if len(self.list) != count:
            return Parts((*self.list[:count], *changes))
        self.list += changes
        self.bytes += sum(map(len, changes))
        return self


@dataclass(slots=True)
class Held:
    """Verified data of one context: the first `count` of `parts`.

    `nonce`, `sequence` and `chain` identify the content, `shape` names its structure. `about` is the metadata and the
    stamp that names it, in one piece, because several readers set and use it; None while only the content is known
    (after a write of our own). `view` is made when first asked for.
    """

    nonce: str
    sequence: int
    chain: str
    shape: int
    parts: Parts
    count: int = 1
    about: tuple[Metadata | None, str] = (None, "")
    view: ReadOnlyDict | None = None
    view_bytes: int = 0

    @property
    def identity(self) -> str:
        """What the scripts compare: equal for equal content only."""
        return f"{self.nonce} {self.sequence} {self.chain}"

    @property
    def look(self) -> str:
        """The structure a change is checked against."""
        return f"{self.nonce} {self.shape}"

    @property
    def cost(self) -> int:
        """Bytes of memory, about."""
        return self.parts.bytes + self.view_bytes

    def copy(self, limits: CodecLimits) -> dict[Any, Any]:
        """The data, made anew: the caller may do with it as it likes."""
        parts = self.parts.list
        data = deserialize(parts[0], limits)
        for place in range(1, self.count):
            apply(data, unpack_change(parts[place], limits))
        return data

    def shared(self, limits: CodecLimits) -> ReadOnlyDict:
        """The read-only view, the same one for everybody."""
        with _VIEWS:
            if self.view is not None:
                return self.view
        parts = self.parts.list
        box, size = _opened(parts[0], limits)
        for place in range(1, self.count):
            box = [grow(box, unpack_change(parts[place], limits))]
            size += 2 * len(parts[place])
        with _VIEWS:
            if self.view is None:
                self.view, self.view_bytes = box.pop(), size
            return self.view

    def grown(self, changes: Sequence[bytes], sequence: int, chain: str, shape: int, limits: CodecLimits) -> Held:
        """The same with `changes` added. It takes the view over; who was given that keeps it as it was."""
        with _VIEWS:
            box = [self.view] if self.view is not None else []
            self.view = None
            for change in changes if box else ():
                box = [grow(box, unpack_change(change, limits))]
            size = self.view_bytes + 2 * sum(map(len, changes)) if box else 0
            parts = self.parts.grown(self.count, changes)
            count = self.count + len(changes)
            return Held(
                self.nonce, sequence, chain, shape, parts, count, view=box.pop() if box else None, view_bytes=size
            )

    def folded(self, raw: bytes) -> Held:
        """The same content in one part."""
        with _VIEWS:
            view, self.view = self.view, None
            parts, size = Parts((raw,)), self.view_bytes
            return Held(self.nonce, self.sequence, self.chain, self.shape, parts, view=view, view_bytes=size)


def _opened(raw: bytes, limits: CodecLimits) -> tuple[list[ReadOnlyDict], int]:
    """A view that nobody but the list around it holds, so that it can grow in place."""
    view, size = view_of(raw, limits)
    return [view], size


# Views grow in place while nobody holds them: nobody may take hold of one meanwhile. Held for microseconds.
_VIEWS = threading.Lock()


class NearCache:
    """Held contexts, the least recently used ones given up first; safe to share between threads."""

    def __init__(self, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, tuple[Held, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def get(self, context_id: str) -> Held | None:
        """What is held of a context."""
        with self._lock:
            found = self._held.get(context_id)
            if found is None:
                return None
            self._held.move_to_end(context_id)
            return found[0]

    def put(self, context_id: str, held: Held) -> None:
        """Hold a context, if it is within the bounds at all."""
        cost = held.cost
        with self._lock:
            self._forget(context_id)
            if cost > self._max_bytes or not self._max_entries:
                return
            self._held[context_id] = held, cost
            self.bytes += cost
            while self.bytes > self._max_bytes or len(self._held) > self._max_entries:
                self._forget(next(iter(self._held)))

    def weigh(self, context_id: str, held: Held) -> None:
        """Count a view that was made since the context was put here."""
        found = self._held.get(context_id)
        if found is not None and found[0] is held and found[1] != held.cost:
            self.put(context_id, held)

    def forget(self, context_id: str) -> None:
        """Hold a context no longer."""
        if context_id in self._held:
            with self._lock:
                self._forget(context_id)

    def _forget(self, context_id: str) -> None:
        found = self._held.pop(context_id, None)
        if found is not None:
            self.bytes -= found[1]


@dataclass(slots=True)
class Seen:
    """The structure of a context as last seen: `look` names it, `lists` are paths in it that lead to a list."""

    look: str
    lists: dict[str | Path, Path] = field(default_factory=dict)


class SeenLists:
    """Which paths lead to lists, of the last thousand contexts, so that an append needs no look at the data."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, Seen] = OrderedDict()

    def get(self, context_id: str) -> Seen | None:
        """What was seen of a context."""
        return self._seen.get(context_id)

    def note(self, context_id: str, look: str, data: Mapping[Any, Any] | None = None) -> Seen:
        """Remember a structure, and the lists at the top of `data`."""
        seen = self._seen.get(context_id)
        if seen is None or seen.look != look:
            seen = self._seen[context_id] = Seen(look)
            if len(self._seen) > _KNOWN_CONTEXTS:
                self._drop_oldest()
            for key, value in islice(data.items() if data else (), KNOWN_LISTS):
                if isinstance(value, list) and isinstance(key, str):
                    seen.lists[key,] = (key,)
        return seen

    def forget(self, context_id: str) -> None:
        """Look again before the next change."""
        self._seen.pop(context_id, None)

    def _drop_oldest(self) -> None:
        # Another thread may have taken the last one.
        try:
            self._seen.popitem(last=False)
        except KeyError:
            return
