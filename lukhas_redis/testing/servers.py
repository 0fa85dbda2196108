"""Starting one server for a test and holding it.

What belongs here: `start_server` and the handle it returns. What does not: groups of servers (see `sentinels` and
`clusters`). Invariant: a handle that was returned belongs to a server that answers; one that could not start leaves
no process and no directory behind.
"""

from __future__ import annotations

import signal
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError
from redis.retry import Retry

from lukhas_redis.errors import ServerUnsuitable, Unavailable
from lukhas_redis.testing.binaries import ServerBinary, default_binary
from lukhas_redis.testing.certificates import Certificates, make_certificates
from lukhas_redis.testing.configuration import DEFAULTS, Config, Value, listen, render
from lukhas_redis.testing.ports import HOST, free_port
from lukhas_redis.testing.process import ServerProcess, remove_directory, temporary_directory
from lukhas_redis.testing.waiting import wait_until

_START_SECONDS = 30.0
_PORT_ATTEMPTS = 5
_PORT_TAKEN = ("Address already in use", "bind: Address")


class RunningServer:
    """A server of ours: its address, and the means to hurt it. A context manager: leaving it ends the server."""

    def __init__(
        self, binary: ServerBinary, process: ServerProcess, *, url: str, port: int, owns_directory: bool
    ) -> None:
        self.binary = binary
        self.url = url
        self.host = HOST
        self.port = port
        self.process = process
        self._owns_directory = owns_directory
        self._clients: list[redis.Redis] = []
        self._admin: redis.Redis | None = None

    @property
    def id(self) -> str:
        """Flavor and version of the program, as in `redis-7.0.15`."""
        return self.binary.id

    @property
    def flavor(self) -> str:
        """`redis` or `valkey`."""
        return self.binary.flavor

    @property
    def version(self) -> str:
        """The program's version."""
        return self.binary.version

    @property
    def pid(self) -> int:
        """The process id of the last run."""
        return self.process.pid

    @property
    def directory(self) -> Path:
        """Where its data, configuration and log are."""
        return self.process.directory

    @property
    def alive(self) -> bool:
        """Whether the process runs (a paused one does)."""
        return self.process.alive

    @property
    def log(self) -> str:
        """Everything the server has logged."""
        return self.process.log()

    @property
    def admin(self) -> redis.Redis:
        """One plain client that this handle keeps for its own questions."""
        if self._admin is None:
            self._admin = self.client(retry=Retry(NoBackoff(), 0))
        return self._admin

    def client(self, **options: Any) -> redis.Redis:
        """A plain redis-py client; `options` go to `Redis.from_url`. Closed with the server."""
        client = redis.Redis.from_url(self.url, **options)
        self._clients.append(client)
        return client

    def command(self, *arguments: str | bytes | float) -> Any:
        """Send one command and return the reply, in whatever shape redis-py gives it."""
        return self.admin.execute_command(*arguments)  # type: ignore[no-untyped-call]

    def info(self, section: str) -> dict[str, Any]:
        """One section of INFO."""
        return dict(self.admin.info(section))

    def config_set(self, name: str, value: str | int) -> None:
        """Change a setting while the server runs."""
        self.admin.config_set(name, value)

    def kill9(self) -> None:
        """End it as a power cut would; the data directory stays."""
        self.process.end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order, as a service manager would; the data directory stays."""
        self.process.end(signal.SIGTERM)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing is answered."""
        self.process.pause()

    def resume(self) -> None:
        """Let a paused server go on (SIGCONT)."""
        self.process.resume()

    def restart(self) -> None:
        """Stop it if it runs and start it with the same directory, port and configuration.

        With an append-only file its data is there again when this returns.

        Raises:
            Unavailable: it did not come up; the message ends with its log.
        """
        self.stop()
        self.start()

    def start(self) -> None:
        """Start an ended server again; see `restart`."""
        self.process.start()
        self.wait_ready()

    def wait_ready(self, timeout: float = _START_SECONDS) -> None:
        """Wait until the server answers and has loaded its data.

        Raises:
            Unavailable: the process ended or did not answer within `timeout` seconds.
        """
        try:
            wait_until(lambda: not self.alive or self._answers(), timeout=timeout)
        except TimeoutError:
            self.kill9()
            raise Unavailable(f"{self.id} at {self.url} did not answer within {timeout} s:\n{self._tail()}") from None
        if not self.alive:
            raise Unavailable(f"{self.id} at {self.url} ended while starting:\n{self._tail()}")

    def close(self) -> None:
        """End the server at once, close its clients and remove its directory."""
        for client in self._clients:
            client.close()
        self.kill9()
        if self._owns_directory:
            remove_directory(self.directory)

    def __enter__(self) -> RunningServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<RunningServer {self.id} {self.url}>"

    def _answers(self) -> bool:
        # A client of its own: something else may listen on the port and never answer.
        try:
            with redis.Redis.from_url(self.url, retry=Retry(NoBackoff(), 0), socket_timeout=1) as client:
                client.ping()
        except BusyLoadingError:
            return False
        except (AuthenticationError, NoPermissionError):
            return True
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        except redis.ResponseError:
            return True
        return True

    def _tail(self, lines: int = 12) -> str:
        return "\n".join(self.log.splitlines()[-lines:])


def start_server(
    binary: ServerBinary | None = None,
    *,
    port: int | None = None,
    unix_socket: bool = False,
    config: Config | None = None,
    tls: bool = False,
    acl: str | Path | None = None,
    dir: str | Path | None = None,
    sentinel: bool = False,
) -> RunningServer:
    """Start a server on the loopback interface and return when it answers.

    `binary` defaults to the first of `server_binaries()`, `port` to a free one. `unix_socket` listens on a socket file
    instead, `tls` on TLS only, with its own authority. `config` overrides the defaults (no persistence, DEBUG allowed
    locally). `acl` is the text of an ACL file or its path. `dir` keeps the data; without it a temporary directory
    is used and removed on `close`. `sentinel` runs the program as a sentinel; `config` then says what it watches.
    The server ends at the latest when this process does, even by `kill -9`.

    Raises:
        ServerUnsuitable: the program is missing or lacks TLS; a retry does not help.
        Unavailable: the server did not come up; the message ends with its log.
    """
    binary = binary or default_binary()
    if tls and not binary.has_tls:
        raise ServerUnsuitable(f"{binary.id} at {binary.path} was built without TLS")
    for attempt in range(_PORT_ATTEMPTS):
        server = _prepare(binary, port or free_port(), unix_socket, dict(config or {}), tls, acl, dir, sentinel)
        try:
            server.start()
            return server
        except Unavailable:
            taken = any(word in server.log for word in _PORT_TAKEN)
            server.close()
            if port or not taken or attempt == _PORT_ATTEMPTS - 1:
                raise
    raise AssertionError("the loop either returns or raises")


def _prepare(
    binary: ServerBinary,
    port: int,
    unix_socket: bool,
    config: dict[str, Value],
    tls: bool,
    acl: str | Path | None,
    directory: str | Path | None,
    sentinel: bool,
) -> RunningServer:
    home = Path(directory).resolve() if directory else temporary_directory()
    home.mkdir(parents=True, exist_ok=True)
    socket_path = home / "server.sock" if unix_socket else None
    certificates = make_certificates(home / "tls") if tls else None
    defaults = {"bind": HOST} if sentinel else DEFAULTS
    settings: dict[str, Value] = {**defaults, **listen(port, socket_path, certificates), "dir": home}
    if acl is not None:
        settings["aclfile"] = _acl_file(home, acl)
    settings.update(config)
    conf = home / "server.conf"
    conf.write_text(render(settings), encoding="utf-8")
    process = ServerProcess([binary.path, str(conf), *(["--sentinel"] if sentinel else [])], home)
    url = _url(port, socket_path, certificates, config.get("requirepass"))
    return RunningServer(binary, process, url=url, port=port, owns_directory=directory is None)


def _acl_file(home: Path, acl: str | Path) -> Path:
    path = home / "users.acl"
    path.write_text(acl.read_text(encoding="utf-8") if isinstance(acl, Path) else acl, encoding="utf-8")
    return path


def _url(port: int, socket_path: Path | None, certificates: Certificates | None, password: object) -> str:
    login = f":{quote(str(password), safe='')}@" if password else ""
    if socket_path is not None:
        return f"unix://{login}{quote(str(socket_path))}"
    if certificates is not None:
        return f"rediss://{login}{HOST}:{port}?ssl_ca_certs={quote(str(certificates.authority))}"
    return f"redis://{login}{HOST}:{port}"
