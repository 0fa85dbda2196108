"""The life of a worker process: from making its bus to its end, and what signals ask of it meanwhile.

What belongs here: signals, and how it ended. What does not: handling events (`lukhas_redis.bus`), words about it
(`worker_view`).
Invariant: however it ends, short of SIGKILL and a third signal, what is in hand is finished or given back.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress

from lukhas_redis.bus import AsyncContextBus

AT_ONCE = 130
_STUCK_SECONDS = 1.0
_QUIET, _RELOAD, _STOP = "quiet", "reload", "stop"


class Life:
    """One worker. `ended`: stop, now (at once), reload or error; empty while it works."""

    def __init__(
        self, make: Callable[[], Awaitable[AsyncContextBus]], say: Callable[[str], None], *, dry_run: bool, grace: float
    ) -> None:
        self._make = make
        self._say = say
        self._dry = dry_run
        self._grace = grace
        self._work: asyncio.Task[None] | None = None
        self.bus: AsyncContextBus | None = None
        self.quiet = False
        self.ended = ""

    async def run(self) -> None:
        """Work until a signal asks for the end, or the app itself calls its bus's `stop`.

        Raises:
            LukhasRedisError: It cannot work: a right is missing, or the app is none.
        """
        loop = asyncio.get_running_loop()
        # A hang-up that is ignored, as under nohup, stays ignored.
        asked = {signal.SIGTERM: _STOP, signal.SIGINT: _STOP, signal.SIGUSR1: _QUIET}
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            asked[signal.SIGHUP] = _RELOAD
        self._work = loop.create_task(self._working())
        for number, word in asked.items():
            loop.add_signal_handler(number, self._obey, word)
        try:
            with suppress(asyncio.CancelledError):
                await self._work
        finally:
            for number in asked:
                loop.remove_signal_handler(number)
            self.ended = self.ended or "error"

    async def stuck(self) -> bool:
        """Whether handlers still run that will not be cancelled; nobody could wait for them."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        return bool(left and (await asyncio.wait(left, timeout=_STUCK_SECONDS))[1])

    async def _working(self) -> None:
        self.bus = await self._make()
        try:
            if self.quiet:
                self.bus.quiet()
            await self.bus.run(dry_run=self._dry, grace_seconds=self._grace)
            self.ended = self.ended or _STOP
        finally:
            await self.bus.store.close()

    def _obey(self, word: str) -> None:
        if word == _QUIET:
            self._be_quiet()
        elif not self.ended:
            self.ended = word
            self._end()
        elif self.ended == _RELOAD and word == _STOP:
            self.ended = _STOP
        elif word == _STOP:
            self._end_at_once()

    def _be_quiet(self) -> None:
        self.quiet = True
        if self.bus is not None:
            self.bus.quiet()
        self._say("quiet: nothing more is taken; SIGTERM ends it")

    def _end(self) -> None:
        held = self.bus.in_hand if self.bus is not None else 0
        self._say(f"{self.ended}: up to {self._grace:g} s for {held} events in hand; a second signal does not wait")
        if self.bus is not None:
            self.bus.stop()
        elif self._work is not None:
            self._work.cancel()

    def _end_at_once(self) -> None:
        if self.ended == "now":
            # A handler that will not be cancelled, or a server that does not answer: its holds lapse.
            os._exit(AT_ONCE)
        self.ended = "now"
        self._say("stopping at once: what is in hand is given back")
        if self._work is not None:
            self._work.cancel()
