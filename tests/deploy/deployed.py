"""A server booted from the files of `deploy/`, and its users.

What belongs here: starting it as an operator would. What does not: fixtures (`conftest`), what is tested.
Invariant: only paths, the port and the address differ from the shipped files.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from lukhas_redis import Settings
from lukhas_redis.testing import ServerBinary, free_port
from lukhas_redis.testing.process import ServerProcess, temporary_directory
from lukhas_redis.testing.servers import RunningServer

DEPLOY = Path(__file__).parents[2] / "deploy"
USERS = ("worker", "reader", "ops", "deploy", "replica", "admin")
TENANT_USER = "tenant-acme"


@dataclass(frozen=True, slots=True)
class Deployed:
    """A running server and the folder of its secrets."""

    server: RunningServer
    secrets: Path

    def password(self, user: str) -> str:
        """The password that make-acl made for `user` (without `lukhas-`)."""
        return (self.secrets / f"{user}.password").read_text(encoding="utf-8")

    def url(self, user: str) -> str:
        """What `user` connects to."""
        return f"redis://lukhas-{user}:{self.password(user)}@{self.server.host}:{self.server.port}"

    def client(self, user: str) -> redis.Redis:
        """A plain client of `user`, which the caller closes."""
        return redis.Redis.from_url(self.url(user), decode_responses=True)

    def settings(self, user: str, **values: Any) -> Settings:
        """Settings of a store that works as `user`."""
        return Settings(url=self.url(user), **values)


def make_secrets(binary: ServerBinary, folder: Path, *options: str) -> Path:
    """Run make-acl as its help says for this server."""
    old = ["--redis-7.0"] if binary.version.startswith("7.0.") and binary.flavor == "redis" else []
    command = ["sh", str(DEPLOY / "make-acl"), *old, *options, str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def conf_of(binary: ServerBinary) -> Path:
    """The configuration file for a program."""
    return DEPLOY / f"{binary.flavor}.conf"


def boot(binary: ServerBinary, secrets: Path, *options: str) -> Deployed:
    """Start a server with the shipped configuration and the ACL file in `secrets`."""
    home, port = temporary_directory(), free_port()
    shipped = conf_of(binary).read_text(encoding="utf-8")
    conf = home / "server.conf"
    # The one line that the command line cannot override: the server goes there while it reads the file.
    conf.write_text(shipped.replace("\ndir /data\n", f"\ndir {home}\n"), encoding="utf-8")
    places = ["--port", str(port), "--aclfile", str(secrets / "users.acl"), "--bind", "127.0.0.1"]
    process = ServerProcess([binary.path, str(conf), *places, *options], home)
    password = (secrets / "admin.password").read_text(encoding="utf-8")
    url = f"redis://lukhas-admin:{password}@127.0.0.1:{port}"
    server = RunningServer(binary, process, url=url, port=port, owns_directory=True)
    server.start()
    return Deployed(server, secrets)
