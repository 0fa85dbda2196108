"""A process of the race: the one that emits, or the worker. `python -m benchmarks.buses.child module:Class url`.

What belongs here: what such a process does when told. What does not: what it is told (`race`). It is told in lines of
JSON on its standard input and answers with one line each; what a library prints goes to the standard error.
Invariant: only the standard library is imported here, and a side imports its package when it is opened.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import version
from time import perf_counter_ns
from typing import Any, TypeAlias

from benchmarks.buses.side import BusSide, Payload, payload
from benchmarks.optional import AbsentError

Asked: TypeAlias = dict[str, Any]
_LINE_BYTES = 1 << 20
_LOOK_SECONDS = 0.002
_LEAST_REST_SECONDS = 0.01
# An event that is not handled by then is lost.
_SIGN_SECONDS = 60.0


@dataclass
class Seen:
    """The events of one phase that were handled; `others_first` counts what was handled of `other` before each."""

    numbers: set[int] = field(default_factory=set)
    latency_ns: list[int] = field(default_factory=list)
    first_ns: int = 0
    others_first: list[int] = field(default_factory=list)


class Child:
    """One side in one process, as the emitter or as the worker; `sign` is one end of the pipe from this to that.

    The worker puts a byte into the pipe for each event of a phase that is emitted singly.
    """

    def __init__(self, side: BusSide, sign: int) -> None:
        self._side = side
        self._sign = sign
        self._seen: dict[str, Seen] = {}
        self._signed = ""
        self._other = ""
        self._working: asyncio.Task[None] | None = None
        self._signs: asyncio.StreamReader | None = None
        self.commands: dict[str, Callable[[Asked], Awaitable[Any]]] = {
            name: getattr(self, name) for name in ("prepare", "work", "expect", "open", "emit", "singly", "paced")
        }

    # -- the worker ---------------------------------------------------------------------------------------------

    async def prepare(self, _: Asked) -> dict[str, str]:
        """See to it that nothing is missed, and say what this process runs on."""
        await self._side.prepare()
        return {"version": version(self._side.package), "redis": version("redis")}

    async def work(self, asked: Asked) -> None:
        """Begin to handle events; in the phase `signed` say so for each, in `other` count."""
        self._signed, self._other = asked.get("signed", ""), asked.get("other", "")
        self._working = asyncio.create_task(self._side.work(self._handle, asked["concurrency"]))

    async def expect(self, asked: Asked) -> dict[str, Any]:
        """Wait until `count` events of a phase are handled and (`all`) none is unfinished; what was seen of them.

        Raises:
            TimeoutError: It takes longer than `seconds`.
        """
        seen = self._seen.setdefault(asked["phase"], Seen())
        async with asyncio.timeout(asked["seconds"]):
            while len(seen.numbers) < asked["count"] or (asked["all"] and await self._side.unfinished()):
                if self._working is not None and self._working.done():
                    self._working.result()
                await asyncio.sleep(_LOOK_SECONDS)
        return {
            "first_ns": seen.first_ns,
            "done_ns": perf_counter_ns(),
            "latency_ns": seen.latency_ns,
            "twice": len(seen.latency_ns) - len(seen.numbers),
            "others_first": seen.others_first,
        }

    def _handle(self, event: Payload) -> None:
        now = perf_counter_ns()
        phase = event["phase"]
        seen = self._seen.get(phase)
        if seen is None:
            seen = self._seen[phase] = Seen(first_ns=now)
        seen.first_ns = seen.first_ns or now
        seen.numbers.add(event["n"])
        seen.latency_ns.append(now - event["at"])
        if phase == self._signed:
            os.write(self._sign, b".")
            if self._other:
                seen.others_first.append(len(self._seen.get(self._other, Seen()).numbers))

    # -- the emitter --------------------------------------------------------------------------------------------

    async def open(self, _: Asked) -> None:
        """Connect."""
        await self._side.open()

    async def emit(self, asked: Asked) -> dict[str, int]:
        """As many as asked for, by so many tasks."""
        phase, numbers = asked["phase"], iter(range(asked["count"]))
        priority = asked.get("priority", "normal")

        async def task() -> None:
            for number in numbers:
                await self._side.emit(payload(phase, number, perf_counter_ns()), priority)

        began = perf_counter_ns()
        await asyncio.gather(*(task() for _ in range(asked["tasks"])))
        return {"began_ns": began, "ended_ns": perf_counter_ns()}

    async def singly(self, asked: Asked) -> dict[str, int]:
        """One at a time: each a little after the one before was handled, up to `count` within `seconds`.

        The little is by chance, and long enough to fall anywhere between two looks of a worker that polls.

        Raises:
            TimeoutError: One was not handled for a minute.
        """
        chance = random.Random(0)
        ends, count = perf_counter_ns() + round(asked["seconds"] * 1e9), 0
        reader = self._signs = self._signs or await _reader(self._sign)
        while count < asked["count"] and perf_counter_ns() < ends:
            await asyncio.sleep(_LEAST_REST_SECONDS * (1 + chance.random()) + self._side.poll_seconds * chance.random())
            event = payload(asked["phase"], count, perf_counter_ns())
            await self._side.emit(event, asked.get("priority", "normal"))
            async with asyncio.timeout(_SIGN_SECONDS):
                await reader.readexactly(1)
            count += 1
        return {"count": count}

    async def paced(self, asked: Asked) -> dict[str, int]:
        """So many at even distances, whatever became of those before."""
        per_second, sent = asked["per_second"], set[asyncio.Task[None]]()
        began = perf_counter_ns()
        for number in range(asked["count"]):
            early = began + number / per_second * 1e9 - perf_counter_ns()
            if early > 0:
                await asyncio.sleep(early / 1e9)
            sent.add(asyncio.create_task(self._side.emit(payload(asked["phase"], number, perf_counter_ns()))))
        await asyncio.gather(*sent)
        return {"began_ns": began, "ended_ns": perf_counter_ns()}


async def serve(child: Child, answers: int) -> None:
    """Do what the lines of the standard input ask for, until they end."""
    async for line in _lines(await _reader(sys.stdin.fileno())):
        asked: Asked = json.loads(line)
        try:
            answer = {"ok": await child.commands[asked["do"]](asked)}
        except AbsentError as error:
            answer = {"absent": str(error)}
        except Exception as error:  # noqa: BLE001 - whatever a library raises is told to the race
            answer = {"failed": f"{asked['do']}: {type(error).__name__}: {error}"}
        await asyncio.to_thread(_write, answers, json.dumps(answer).encode() + b"\n")


async def _reader(file: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(_LINE_BYTES)
    pipe = os.fdopen(os.dup(file), "rb", 0)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def _lines(reader: asyncio.StreamReader) -> AsyncGenerator[bytes]:
    while line := await reader.readline():
        yield line


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def main(words: list[str]) -> None:
    """Run as the side that is named."""
    place, url, sign = words
    module, _, name = place.partition(":")
    side: BusSide = getattr(import_module(module), name)(url)
    answers = os.dup(1)
    os.dup2(2, 1)
    asyncio.run(serve(Child(side, int(sign)), answers))


if __name__ == "__main__":
    main(sys.argv[1:])
