"""The program that ends test servers when the process that started them is gone, however it went.

What belongs here: a script for a separate interpreter, standard library only, talked to by `guard` over its standard
input. What does not: anything imported by the test process. Invariant: once the parent is gone, every process still
on the list is killed and every directory still on it removed; nothing else is touched.

A parent-death signal (Linux only) would be tied to the thread that started the server, not to the process.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys

_POLL_SECONDS = 0.5  # a forked child of the parent may hold the pipe open, so the parent's pid is watched as well


def main(parent: int) -> None:
    """Keep the lists until the parent is gone, then clean up."""
    pids: set[int] = set()
    directories: set[str] = set()
    pending = b""
    while chunk := _next_chunk(parent):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            _apply(os.fsdecode(line), pids, directories)
    _clean_up(pids, directories)


def _next_chunk(parent: int) -> bytes:
    """What the parent has written; empty when it is gone and everything it wrote has been read."""
    while True:
        gone = os.getppid() != parent  # asked first: what a parent wrote before its end is in the pipe by then
        if select.select([0], [], [], 0 if gone else _POLL_SECONDS)[0]:
            return os.read(0, 65536)
        if gone:
            return b""


def _apply(line: str, pids: set[int], directories: set[str]) -> None:
    order, _, value = line.partition(" ")
    if order == "+pid":
        pids.add(int(value))
    elif order == "-pid":
        pids.discard(int(value))
    elif order == "+dir":
        directories.add(value)
    elif order == "-dir":
        directories.discard(value)


def _clean_up(pids: set[int], directories: set[str]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            continue  # gone before us
    for directory in directories:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
