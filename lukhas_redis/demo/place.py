"""Where the demo runs: a server of its own that ends with it, or a tenant of its own on the server of a URL.

What belongs here: making the place and giving it back. What does not: what happens in it.
Invariant: the user's own embedded server and other tenants are never touched; after `close` nothing is left, unless
the place was asked to stay.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from lukhas_redis.embedded import ensure, stop
from lukhas_redis.errors import LukhasRedisError

_START_SECONDS = 15.0


@dataclass
class Place:
    """A URL and a tenant. `directory` is for logs, and for the server when it is our own (`own`)."""

    url: str
    tenant: str
    directory: Path
    own: bool
    socket: Path | None = None

    def close(self, *, keep: bool) -> str:
        """Stop our own server and remove the directory, unless it is to stay; returns what could not be done, or ""."""
        if keep and self.own:
            return ""
        trouble = ""
        if self.own:
            try:
                stop(state_dir=self.directory)
            except LukhasRedisError as error:
                trouble = str(error)
        for directory in self.directories:
            shutil.rmtree(directory, ignore_errors=True)
        return trouble

    @property
    def directories(self) -> list[Path]:
        """Every directory made here: beside `directory` a short one for the socket, when its path was too long."""
        if self.socket is None or self.socket.is_relative_to(self.directory):
            return [self.directory]
        return [self.directory, self.socket.parent]


def make_place(url: str | None) -> Place:
    """A place at `url`, else with a server of our own in a temporary directory.

    Raises:
        ServerUnsuitable, Unavailable: No server could be started; nothing is left behind.
    """
    directory = Path(tempfile.mkdtemp(prefix="lukhas-demo-"))
    if url:
        return Place(url, f"demo-{uuid4().hex[:8]}", directory, own=False)
    place = Place("", "demo", directory, own=True)
    try:
        server = ensure(state_dir=directory, timeout=_START_SECONDS)
    except BaseException:
        place.close(keep=False)
        raise
    place.url, place.socket = server.url, server.socket_path
    return place
