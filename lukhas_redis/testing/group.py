"""What a Sentinel group and a cluster have in common: several servers that start, heal and end together.

What belongs here: the list of servers and its care. What does not: topology. Invariant: after `close` none of the
servers runs and none of their directories exists.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

from lukhas_redis.testing.ports import HOST
from lukhas_redis.testing.servers import RunningServer


class ServerGroup:
    """Servers that belong together. A context manager: leaving it ends them all."""

    def __init__(self) -> None:
        self.servers: list[RunningServer] = []

    @property
    def flavor(self) -> str:
        """`redis` or `valkey`."""
        return self.servers[0].flavor

    @property
    def version(self) -> str:
        """The program's version."""
        return self.servers[0].version

    @property
    def id(self) -> str:
        """Flavor and version of the program, as in `redis-7.0.15`."""
        return self.servers[0].id

    def server_at(self, host: str, port: int) -> RunningServer:
        """The server with this address.

        Raises:
            KeyError: none has it.
        """
        for server in self.servers:
            if (server.host, server.port) == (host, port):
                return server
        raise KeyError(f"{host}:{port} is none of ours")

    def wait_ready(self, timeout: float = 60.0) -> None:
        """Wait until the whole group serves; each topology says what that means."""
        for server in self.servers:
            server.wait_ready(timeout)

    @property
    def disturbed(self) -> bool:
        """Whether a server is paused or has ended."""
        return any(server.process.paused or not server.alive for server in self.servers)

    def heal(self) -> None:
        """Resume what is paused, start what was killed, and wait until the group serves again."""
        self.revive()
        self.wait_ready()

    def revive(self) -> None:
        """Resume what is paused and start what was killed; each server answers, the group may still have to settle."""
        for server in self.servers:
            server.resume()
            if not server.alive:
                server.process.start()
        for server in self.servers:
            server.wait_ready()

    def close(self) -> None:
        """End all servers and remove their directories."""
        for server in self.servers:
            server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def addresses(servers: list[RunningServer]) -> str:
    """`host:port` of each, joined by commas, as our URLs want them."""
    return ",".join(f"{HOST}:{server.port}" for server in servers)
