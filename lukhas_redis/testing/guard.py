"""Telling the watchdog which processes and directories must not outlive this process.

What belongs here: the pipe to the one watchdog of this process. What does not: the watchdog itself (see `watchdog`).
Invariant: a process registered here ends when this process ends, by whatever means, `kill -9` included.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

_SCRIPT = Path(__file__).with_name("watchdog.py")


class Guard:
    """One watchdog; made on first use, once per process (a forked child gets its own)."""

    _current: Guard | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._writing = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_SCRIPT), str(self.owner)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C goes to the tests; they stop their servers in order
        )

    @classmethod
    def current(cls) -> Guard:
        """The guard of this process."""
        with cls._lock:
            if cls._current is None or cls._current.owner != os.getpid():
                cls._current = cls()
            return cls._current

    @property
    def pid(self) -> int:
        """The watchdog's own process id."""
        return self._process.pid

    def watch_process(self, pid: int) -> None:
        """Kill this process when ours is gone."""
        self._send(f"+pid {pid}")

    def forget_process(self, pid: int) -> None:
        """It has ended; its number may soon belong to another program."""
        self._send(f"-pid {pid}")

    def watch_directory(self, path: Path) -> None:
        """Remove this directory when our process is gone."""
        self._send(f"+dir {path}")

    def forget_directory(self, path: Path) -> None:
        """It was removed or is to stay."""
        self._send(f"-dir {path}")

    def _send(self, line: str) -> None:
        stream = self._process.stdin
        if stream is None:
            raise AssertionError("the watchdog was started without a pipe")
        with self._writing:
            stream.write(os.fsencode(line) + b"\n")
            stream.flush()
