"""The data that is stored: agent conversations of exact sizes that compress as recorded ones do.

What belongs here: making data. What does not: storing it. Invariant: the same size gives the same bytes in every run on
every machine; everything in it is JSON, so that both sides can store the same data.

Measured on recorded runs of coding agents, LZ4 keeps about 80 % of 1 kB, 50 % of 10 kB, 25-35 % of 40 kB, 13 % of
400 kB: prose does not shrink much, and the longer a run, the more often the same files and outputs are shown again.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from benchmarks.plan import KB, SIZES
from lukhas_redis.codec import encode, serialize

_SOME_ID = "1b4e28ba-2fa1-4d2b-883f-0016d3cca427"
_SYLLABLES = (
    *("an", "be", "con", "der", "en", "for", "gra", "hin", "in", "jo", "ka", "lo", "mi", "ne", "or"),
    *("pre", "qua", "re", "si", "ta", "un", "ver", "wi", "ex", "yo", "za", "ment", "tion", "ing", "ed"),
)
# A text in msgpack has a head of 3 bytes from 256 to 65,535 bytes of length; the last message stays within that.
_HEAD_BYTES, _SHORTEST, _LONGEST = 3, 256, 65_535


@dataclass(frozen=True)
class Body:
    """One thing to store: `variant` says how: `none`, `auto`, or `incompressible` (auto finds nothing to save)."""

    size: str
    variant: str
    data: dict[str, Any]

    @property
    def compression(self) -> str:
        """What `preserve` is asked for."""
        return "none" if self.variant == "none" else "auto"

    @cached_property
    def stored(self) -> bytes:
        """What our store keeps of it (for some id), and what the raw side therefore stores."""
        return encode(self.data, _SOME_ID, compression=self.compression).stored

    @cached_property
    def raw_bytes(self) -> int:
        """Length of the serialized data."""
        return len(serialize(self.data))

    @cached_property
    def json_bytes(self) -> int:
        """Length of the data as JSON."""
        return len(json.dumps(self.data))


def bodies() -> list[Body]:
    """Every size uncompressed and as the default stores it, and the largest of bytes that do not shrink."""
    made = {size: conversation(length) for size, length in SIZES.items()}
    largest = list(SIZES)[-1]
    return [
        *(Body(size, "none", data) for size, data in made.items()),
        *(Body(size, "auto", data) for size, data in made.items()),
        Body(largest, "incompressible", conversation(SIZES[largest], image=True)),
    ]


def conversation(length: int, *, image: bool = False) -> dict[str, Any]:
    """A run of an agent whose data is exactly `length` (from 1,000) bytes serialized.

    `image`: nearly all of it is one embedded image in base64, of which LZ4 saves nothing.
    """
    chance = random.Random(length)
    messages: list[dict[str, Any]] = []
    data: dict[str, Any] = {"task": "repair the failing test", "step": 0, "done": False, "messages": messages}
    if image:
        blob = base64.b64encode(chance.randbytes((length - 4_096) // 4 * 3)).decode()
        data["images"] = [{"type": "image/png", "base64": blob}]
    else:
        _talk(messages, chance, length)
    last: dict[str, Any] = {"role": "assistant", "content": ""}
    messages.append(last)
    missing = length - len(serialize(data)) - _HEAD_BYTES + 1
    if not _SHORTEST <= missing <= _LONGEST:
        raise ValueError(f"{length} bytes cannot be met: the last message would need {missing}")
    last["content"] = _prose(_words(chance), chance, missing)
    return data


@cache
def message(number: int, length: int = KB) -> dict[str, Any]:
    """The `number`-th message to append; serialized it has exactly `length` (from 512) bytes."""
    chance = random.Random(number)
    made: dict[str, Any] = {"role": "assistant", "content": "", "number": 1_000_000 + number}
    missing = length - len(serialize(made)) - _HEAD_BYTES + 1
    made["content"] = _prose(_some_words(), chance, missing)
    return made


@cache
def _some_words() -> list[str]:
    return _words(random.Random(0))


def _talk(messages: list[dict[str, Any]], chance: random.Random, length: int) -> None:
    """Turns until the next one would not leave room for the last message."""
    room = length - 2 * _SHORTEST - 128
    for message in _turns(chance):
        room -= len(serialize(message))
        if room < 0:
            return
        messages.append(message)


def _turns(chance: random.Random) -> Iterator[dict[str, Any]]:
    words = _words(chance)
    files = {f"src/{chance.choice(words)}_{n}.py": _source(words, chance) for n in range(4)}
    at = 1_760_000_000.0
    yield {"role": "user", "content": _prose(words, chance, 150), "at": at}
    while True:
        at += chance.uniform(1, 20)
        path = chance.choice(list(files))
        start = chance.randrange(0, 300, 20)
        yield {
            "role": "assistant",
            "content": _prose(words, chance, chance.randint(100, 500)),
            "tool_calls": [{"name": "open", "arguments": {"path": path, "line": start}}],
            "tokens": chance.randint(40, 900),
            "at": at,
        }
        shown = "\n".join(f"{n}:{line}" for n, line in enumerate(files[path][start : start + 60], start))
        yield {"role": "tool", "name": "open", "content": f"[File: {path} (400 lines total)]\n{shown}", "at": at + 0.4}


def _words(chance: random.Random) -> list[str]:
    return ["".join(chance.choices(_SYLLABLES, k=chance.randint(1, 4))) for _ in range(1_200)]


def _prose(words: list[str], chance: random.Random, length: int) -> str:
    """`length` characters; a few words are frequent and most are rare, as in any language."""
    text = ""
    while len(text) < length:
        text += words[min(int(chance.paretovariate(0.6)), len(words)) - 1] + chance.choice([" "] * 9 + [". "])
    return text[:length]


def _source(words: list[str], chance: random.Random) -> list[str]:
    def line() -> str:
        a, b, c = chance.sample(words, 3)
        shapes = (f"    self.{a} = {b}({c})", f"    if {a} is None:", f"        return {b}", f"def {a}({b}, {c}):", "")
        return chance.choice(shapes)

    return [line() for _ in range(400)]
