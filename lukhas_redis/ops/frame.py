"""Calls that hardly differ from one to the next: packed once, and filled in where they differ.

What belongs here: from the names of a script's header to the bytes that carry a call. What does not: which values they
get (`reading`, `preserve`, `handoff`), and calls that are made rarely, whose words the transport packs (`Script.pack`).
Invariant: the bytes are those of `EVALSHA <sha>` and the words, which `Filled` still gives to whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, Final, overload

from lukhas_redis.scripts import Arg, Script, ScriptError

# Stands for the context's id, also inside keys, and has its length.
ANY_ID: Final = "00000000-0000-4000-8000-000000000000"
# Stands for a key or an argument that every call gives anew. No value of ours holds a control character.
OPEN: Final = "\0"
_ID_LENGTH: Final = len(ANY_ID)
_OPENING: Final = "\0\0"


class Frame:
    """The words of one script on one shard, all but those that are `OPEN` and the `ANY_ID` in its keys and arguments.

    An argument that the header calls `bytes` may only be the last one; it is given apart from the others. `more` are
    those of a trailing list.
    """

    def __init__(
        self, script: Script, keys: Mapping[str, str], args: Mapping[str, Arg], more: Sequence[Arg] = ()
    ) -> None:
        self.script = script
        self.words = script.pack(keys, args, (), more)
        self.has_payload = not more and bool(script.arg_names) and _kind(script, script.arg_names[-1]) == "bytes"
        framed = self.words[:-1] if self.has_payload else self.words
        names = (*script.key_names, *script.arg_names)
        self._pick = _picker([name for name, word in zip(names, framed[1:], strict=False) if word == OPEN])
        self._pieces, places = _pieces(("EVALSHA", script.sha, *framed), 2 + len(self.words))
        self._in_place = itemgetter(*places)

    def fill(self, context_id: str, values: Mapping[str, Arg], payload: bytes = b"") -> Filled:
        """The call for one context; `values` by name for everything `OPEN`, `payload` for the last argument."""
        if len(context_id) != _ID_LENGTH:
            raise ScriptError(f"{self.script.name}: {context_id!r:.80} is not the id of a context")
        given = self._pick(values)
        texts = [*map(str, given)]
        sizes = [f"{len(text)}\r\n" if text.isascii() else f"{len(text.encode())}\r\n" for text in texts]
        packed = "".join(self._in_place((*self._pieces, context_id, *sizes, *texts))).encode()
        if self.has_payload:
            packed = b"%b$%d\r\n%b\r\n" % (packed, len(payload), payload)
        return Filled(self, packed, context_id, given, payload)


class Filled(Sequence[Arg]):
    """The words of one call, made when they are asked for; `packed` is the whole command as it travels."""

    __slots__ = ("_context_id", "_frame", "_given", "_payload", "_words", "packed", "script")

    def __init__(self, frame: Frame, packed: bytes, context_id: str, given: Sequence[Arg], payload: bytes) -> None:
        self.packed = packed
        self.script = frame.script
        self._frame = frame
        self._context_id = context_id
        self._given = given
        self._payload = payload
        self._words: tuple[Arg, ...] = ()

    def all(self) -> tuple[Arg, ...]:
        """The words as `Script.pack` would give them."""
        if not self._words:
            given = iter(self._given)
            *words, last = [
                next(given) if word == OPEN else word.replace(ANY_ID, self._context_id) if type(word) is str else word
                for word in self._frame.words
            ]
            self._words = (*words, self._payload if self._frame.has_payload else last)
        return self._words

    def with_more(self, keys: Sequence[str], args: Sequence[Arg]) -> tuple[Arg, ...]:
        """The words of the same call with a list of further keys and one of further arguments."""
        words = self.all()
        count = int(words[0])
        return (count + len(keys), *words[1 : 1 + count], *keys, *words[1 + count :], *args)

    def __len__(self) -> int:
        return len(self.all())

    @overload
    def __getitem__(self, place: int) -> Arg: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Arg, ...]: ...
    def __getitem__(self, place: int | slice) -> Arg | tuple[Arg, ...]:
        return self.all()[place]


def _pieces(words: Sequence[Arg], count: int) -> tuple[tuple[str, ...], list[int]]:
    """The packed words cut where something is filled in, and in which order (pieces, id, sizes, texts) make them up."""
    text = f"*{count}\r\n"
    for word in words:
        data = str(word)
        text += f"${_OPENING}\r\n" if word == OPEN else f"${len(data.encode())}\r\n{data}\r\n"
    pieces = re.split(f"({ANY_ID}|{_OPENING})", text)
    holes = pieces[1::2]
    fixed = tuple(pieces[::2])
    context_id, opened = len(fixed), holes.count(_OPENING)
    places, size = [0], context_id + 1
    for number, hole in enumerate(holes, 1):
        places += [context_id] if hole == ANY_ID else [size, size + opened]
        size += hole != ANY_ID
        places.append(number)
    return fixed, places


def _kind(script: Script, name: str) -> str:
    return next(row.kind for row in script.args if row.name == name)


def _picker(places: Sequence[Any]) -> Any:
    """A function that takes these of something, as a tuple; `itemgetter` alone gives no tuple of one."""
    if len(places) > 1:
        return itemgetter(*places)
    return partial(_few, places)


def _few(places: Sequence[Any], values: Any) -> tuple[Any, ...]:
    return tuple(values[place] for place in places)
