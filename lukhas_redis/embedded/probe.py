"""Asking whatever listens on the socket what it is.

What belongs here: one short-lived connection and its verdict. What does not: what follows from the verdict (see
`service`). Invariant: never waits longer than a second and never changes anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

_SECONDS = 1.0


class Verdict(Enum):
    """What the socket says."""

    SERVING = "serving"
    LOADING = "loading its data"
    SILENT = "listening, but not answering"
    ABSENT = "not there"


@dataclass(frozen=True, slots=True)
class Answer:
    """The verdict, and, when it serves, the process id, the flavor and the version."""

    verdict: Verdict
    pid: int = 0
    flavor: str = ""
    version: str = ""

    @property
    def id(self) -> str:
        """As in `valkey-9.1.2`."""
        return f"{self.flavor}-{self.version}"


def ask(socket: Path) -> Answer:
    """Connect and ask who is there."""
    with connection(socket) as client:
        try:
            client.ping()  # INFO is answered while loading, PING is not
            facts: dict[str, Any] = dict(client.info("server"))
        except BusyLoadingError:
            return Answer(Verdict.LOADING)
        except redis.TimeoutError:
            return Answer(Verdict.SILENT)
        except (redis.ConnectionError, OSError):
            return Answer(Verdict.ABSENT)
        except redis.ResponseError:
            return Answer(Verdict.SILENT)
    valkey = facts.get("valkey_version")
    return Answer(
        Verdict.SERVING,
        int(facts["process_id"]),
        "valkey" if valkey else "redis",
        str(valkey or facts["redis_version"]),
    )


def connection(socket: Path) -> redis.Redis:
    """A client of the socket that neither retries nor waits for more than a second."""
    return redis.Redis(
        unix_socket_path=str(socket),
        socket_timeout=_SECONDS,
        socket_connect_timeout=_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
