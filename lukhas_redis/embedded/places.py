"""Where the embedded server's files are, and that they belong to this user alone.

What belongs here: directories and the socket's path. What does not: what is written into the files. Invariant: after
`prepare` every directory exists, is owned by the effective user and closed to all others (0700); a socket is trusted
only inside such a directory, and its path is short enough to be bound.
"""

from __future__ import annotations

import os
import re
import stat
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from lukhas_redis.errors import InvalidArgument, ServerUnsuitable

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
# What `sockaddr_un` holds, less the final NUL: 108 bytes on Linux, 104 on macOS.
SOCKET_PATH_BYTES = 103 if sys.platform == "darwin" else 107
_SOCKET_NAME = "valkey.sock"
_ADVICE = "set LUKHAS_STATE_DIR to a directory of yours that is writable, or LUKHAS_URL to a server"


@dataclass(frozen=True, slots=True)
class Places:
    """The files of one embedded server; all inside `home` but for the socket, which may need a shorter path."""

    home: Path
    socket: Path

    @property
    def data(self) -> Path:
        """The append-only files."""
        return self.home / "data"

    @property
    def configuration(self) -> Path:
        """Written anew at every start."""
        return self.home / "valkey.conf"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.home / "server.log"

    @property
    def record(self) -> Path:
        """Who was started last; a hint for people and messages, never trusted."""
        return self.home / "server.json"

    @property
    def start_lock(self) -> Path:
        """Held by whoever is starting or stopping the server."""
        return self.home / "start.lock"

    @property
    def life_lock(self) -> Path:
        """Held by the server itself as long as it lives."""
        return self.home / "server.lock"


def find_places(state_dir: str | os.PathLike[str] | None, name: str) -> Places:
    """Name the files of the server `name` (1..64 of A-Z a-z 0-9 _ . -) without touching the disk.

    Raises:
        InvalidArgument: the name is malformed.
        ServerUnsuitable: no short enough path for the socket, or no home directory; a retry does not help.
    """
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"embedded server name {name!r}: 1 to 64 of A-Z a-z 0-9 _ . -, not starting with a dot")
    home = (Path(state_dir) if state_dir else _default_state_dir()).expanduser().absolute() / name
    return Places(home, _socket_path(home))


def prepare(places: Places) -> None:
    """Make the directories, closed to others.

    Raises:
        ServerUnsuitable: one cannot be made, is somebody else's, or is not a directory; a retry does not help.
    """
    for directory in (places.home, places.data, places.socket.parent):
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _claim(directory)
        except OSError as error:
            raise unsuitable(directory, error) from error


def is_private(directory: Path) -> bool:
    """Whether it is a directory of this user that nobody else may enter; only then is a socket in it ours."""
    try:
        facts = directory.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.geteuid() and not facts.st_mode & 0o077


def unsuitable(path: Path, error: OSError) -> ServerUnsuitable:
    """The error for a file or directory that cannot be used: what, where, why, and what to do."""
    reason = error.strerror or str(error)
    return ServerUnsuitable(f"embedded server: cannot use {path}: {reason}; {_ADVICE}", path=str(path))


def _claim(directory: Path) -> None:
    facts = directory.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise PermissionError(0, f"it must be a directory owned by user {os.geteuid()}, which it is not")
    if stat.S_IMODE(facts.st_mode) != 0o700:
        directory.chmod(0o700)


def _default_state_dir() -> Path:
    given = os.environ.get("LUKHAS_STATE_DIR")
    if given:
        return Path(given)
    try:
        home = Path.home()
    except RuntimeError as error:
        raise ServerUnsuitable(f"embedded server: this user has no home directory; {_ADVICE}") from error
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "lukhas_redis"
    # The XDG specification tells us to ignore a relative path.
    xdg = os.environ.get("XDG_STATE_HOME", "")
    return (Path(xdg) if xdg.startswith("/") else home / ".local" / "state") / "lukhas_redis"


def _socket_path(home: Path) -> Path:
    # The short directory's name is made from the long one, and TMPDIR is not asked while there is a /tmp, so that every
    # process of the user finds the same.
    temporary = Path("/tmp") if Path("/tmp").is_dir() else Path(tempfile.gettempdir())  # noqa: S108 - see `_claim`
    short = f"lukhas-{os.geteuid()}-{sha256(os.fsencode(home)).hexdigest()[:12]}"
    for directory in (home, temporary / short):
        path = directory / _SOCKET_NAME
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            return path
    raise ServerUnsuitable(f"embedded server: no socket path of at most {SOCKET_PATH_BYTES} bytes; {_ADVICE}")
