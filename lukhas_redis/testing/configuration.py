"""The configuration file of a test server.

What belongs here: the defaults, and how values are written down. What does not: choosing ports and directories.
Invariant: a server from here listens on the loopback interface or a unix socket only, and keeps nothing on disk
unless the caller's configuration says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from lukhas_redis.testing.certificates import Certificates
from lukhas_redis.testing.ports import HOST

Value: TypeAlias = "str | int | Path | Sequence[str]"
Config: TypeAlias = Mapping[str, Value]

DEFAULTS: Config = {
    "bind": HOST,
    "save": "",
    "appendonly": "no",
    "enable-debug-command": "local",
    "repl-diskless-sync-delay": 0,  # replicas are ready at once instead of after five seconds
    "shutdown-timeout": 0,  # a stopped primary does not wait for lagging replicas
}


def render(config: Config) -> str:
    """One directive per line; a sequence gives one line per item, an empty string becomes `""`, a path is quoted."""
    return "".join(f"{name} {text}\n" for name, value in config.items() for text in _texts(value))


def listen(port: int, socket_path: Path | None, certificates: Certificates | None) -> dict[str, Value]:
    """The directives that say where a server listens: a unix socket only, TLS only, or plain TCP."""
    if socket_path is not None:
        return {"port": 0, "unixsocket": socket_path, "unixsocketperm": "700"}
    if certificates is None:
        return {"port": port}
    return {
        "port": 0,
        "tls-port": port,
        "tls-ca-cert-file": certificates.authority,
        "tls-cert-file": certificates.certificate,
        "tls-key-file": certificates.key,
        "tls-auth-clients": "no",
    }


def _texts(value: Value) -> Iterator[str]:
    if isinstance(value, Path):
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        yield f'"{escaped}"'
    elif isinstance(value, str | int):
        yield str(value) or '""'
    else:
        yield from value
