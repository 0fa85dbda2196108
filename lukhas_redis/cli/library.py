"""The function library and the help text on servers: putting them there, and comparing.

What belongs here: loading on every primary, reading which release is there. What does not: their content
(`lukhas_redis.functions`, `help_text`), the commands (`functions`, `up`).
Invariant: loading twice is the same as loading once; no context is touched.
"""

from __future__ import annotations

from dataclasses import dataclass

from lukhas_redis.cli.help_text import help_text
from lukhas_redis.cli.servers import Line, line_to, topology
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.functions import library, library_version
from lukhas_redis.keys import KeySpace
from lukhas_redis.settings import Settings
from lukhas_redis.transport.address import plan_of


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one server has: the library's version, None when it has none."""

    server: str
    version: str | None

    @property
    def ours(self) -> bool:
        """Whether it is the library of this release."""
        return self.version == library_version()


def load_everywhere(url: str, settings: Settings) -> list[Loaded]:
    """Load library and help text; returns what every primary has then.

    Raises:
        Unavailable: A server could not be reached; others may have it already. Repeat it.
        AccessDenied: The user lacks +function|load, or +set on the help key.
    """
    plan = plan_of(url, settings)
    routes = topology(plan)
    loaded = []
    for node in routes.nodes():
        with line_to(node, plan) as line:
            line.do("FUNCTION", "LOAD", "REPLACE", library())
            loaded.append(Loaded(str(node), version_on(line)))
    key = KeySpace(settings.prefix, settings.tenant).help
    # The key has no braces: of a cluster's nodes it is on the one that owns the slot of the whole name.
    with line_to(routes.node(key) or routes.nodes()[0], plan) as line:
        line.do("SET", key, help_text(settings.prefix))
    return loaded


def versions(url: str, settings: Settings) -> list[Loaded]:
    """What every primary has.

    Raises:
        Unavailable: A server could not be reached.
        AccessDenied: The user lacks +fcall.
    """
    plan = plan_of(url, settings)
    found = []
    for node in topology(plan).nodes():
        with line_to(node, plan) as line:
            found.append(Loaded(str(node), version_on(line)))
    return found


def version_on(line: Line) -> str | None:
    """The version of the library on one server, or None.

    Raises:
        AccessDenied: The user lacks +fcall.
        Unavailable: The connection broke.
    """
    try:
        return bytes(line.do("FCALL", "lukhas_version", 0)).decode()
    except LukhasRedisError as error:
        if "Function not found" in error.message:
            return None
        raise
