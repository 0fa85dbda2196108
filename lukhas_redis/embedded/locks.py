"""The two locks that make exactly one of many processes start exactly one server.

What belongs here: taking and handing on file locks. What does not: what is done under them. Invariant: the operating
system frees a lock when the last process that holds it is gone, so there is no stale lock and no process id to trust.
(A lock file is never deleted: two processes could then hold two different files of the same name.)
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from lukhas_redis.embedded.places import unsuitable
from lukhas_redis.errors import ServerUnsuitable, Unavailable

try:
    import fcntl
except ImportError as error:  # Windows
    raise ServerUnsuitable("embedded servers need unix file locks and sockets: set LUKHAS_URL to a server") from error

_POLL_SECONDS = 0.02


@contextmanager
def held(path: Path, timeout: float) -> Generator[None]:
    """Hold the lock for the block, waiting up to `timeout` seconds for others.

    Raises:
        Unavailable: others held it all the time; a retry may help.
        ServerUnsuitable: the file cannot be opened; a retry does not help.
    """
    descriptor = take(path, timeout)
    if descriptor is None:
        raise Unavailable(
            f"embedded server: another process has been starting or stopping it for {timeout} s (lock {path})"
        )
    try:
        yield
    finally:
        os.close(descriptor)


def take(path: Path, timeout: float = 0.0) -> int | None:
    """Take the lock and return its descriptor, which holds it until closed; None if others keep it.

    A child process that inherits the descriptor holds the lock too, also after this process is gone.
    """
    deadline = time.monotonic() + timeout
    descriptor = _open(path)
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
            time.sleep(_POLL_SECONDS)
        except OSError as error:
            os.close(descriptor)
            raise unsuitable(path, error) from error
        else:
            return descriptor


def is_held(path: Path) -> bool:
    """Whether some process holds the lock."""
    descriptor = take(path)
    if descriptor is None:
        return True
    os.close(descriptor)
    return False


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise unsuitable(path, error) from error
