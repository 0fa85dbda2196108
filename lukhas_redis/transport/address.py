"""URLs: what each form means, and which part of a bad one is wrong.

What belongs here: the grammar of URLs. What does not: connecting, or clients in the place of URLs (`targets`).
Invariant: no message shows a password.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from lukhas_redis.errors import InvalidArgument
from lukhas_redis.settings.masking import mask_url
from lukhas_redis.transport.dialing import Plan, limits
from lukhas_redis.transport.steps import Node

if TYPE_CHECKING:
    from lukhas_redis.settings import Settings

DEFAULT_PORT = 6379
DEFAULT_SENTINEL_PORT = 26379
_FORMS = "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// (valkey... means the same)"


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no", "1", "0"):
        raise ValueError("must be true or false")
    return text.lower() in ("true", "yes", "1")


def _database(text: str) -> int:
    if not text.isdigit():
        raise ValueError("must be a number from 0 on")
    return int(text)


def _verification(text: str) -> str:
    if text not in ("required", "optional", "none"):
        raise ValueError("must be required, optional or none")
    return text


_OPTIONS: dict[str, Callable[[str], Any]] = {
    "db": _database,
    "username": str,
    "password": str,
    "client_name": str,
    "ssl_ca_certs": str,
    "ssl_ca_path": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_password": str,
    "ssl_cert_reqs": _verification,
    "ssl_check_hostname": _flag,
    "ssl_ciphers": str,
    "sentinel_username": str,
    "sentinel_password": str,
}


@dataclass(frozen=True)
class _Url:
    """A URL cut into its parts, and itself without secrets, for messages."""

    shown: str
    scheme: str
    topology: str
    tls: bool
    parts: SplitResult

    def fail(self, part: str, why: str) -> NoReturn:
        raise InvalidArgument(f"the {part} of {self.shown!r} {why}", field="url", part=part)


def plan_of(url: str, settings: Settings) -> Plan:
    """The plan that a URL describes.

    `redis://[user:password@]host[:port][/db]`, `rediss://` the same with TLS, `unix:///path[?db=n]`,
    `redis+sentinel://[user:password@]host[:port][,host...]/service[/db]`, `redis+cluster://host[:port][,host...]`;
    `valkey` may stand for `redis`. Options follow a `?`: see `_OPTIONS`.

    Raises:
        InvalidArgument: The message names the part that is wrong. A retry cannot help.
    """
    cut = _cut(url)
    options = _options(cut)
    sentinel = {name[9:]: options.pop(name) for name in list(options) if name.startswith("sentinel_")}
    if sentinel and cut.topology != "sentinel":
        cut.fail("query", "gives sentinel credentials, which belong to redis+sentinel:// only")
    data = {**limits(settings), **_credentials(cut), **_path_database(cut), **options}
    if cut.topology == "cluster" and data.get("db"):
        cut.fail("database", "must be 0: a cluster has no other")
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    if tls and not cut.tls:
        cut.fail("query", f"gives {min(tls)}, which needs rediss")
    return Plan(
        cut.topology,
        _nodes(cut),
        service=_service(cut),
        tls=cut.tls,
        options=data,
        sentinel_tls=cut.tls,
        sentinel_options={**limits(settings), **tls, **sentinel},
        max_connections=settings.max_connections,
    )


def _cut(url: str) -> _Url:
    shown = mask_url(url)
    scheme, found, _ = url.partition("://")
    base, _, topology = scheme.lower().partition("+")
    bad = _Url(shown, scheme, topology, tls=False, parts=SplitResult("", "", "", "", ""))
    if not found or base not in ("redis", "rediss", "valkey", "valkeys", "unix") or topology not in _topologies(base):
        bad.fail("scheme", f"is none of {_FORMS}")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        bad.fail("host", f"cannot be read: {error}")
    if parts.fragment:
        bad.fail("fragment", "(from # on) means nothing; write # as %23")
    return _Url(shown, base, topology or "single", base in ("rediss", "valkeys"), parts)


def _topologies(base: str) -> tuple[str, ...]:
    return ("",) if base == "unix" else ("", "sentinel", "cluster")


def _options(cut: _Url) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(cut.parts.query, keep_blank_values=True):
        if name not in _OPTIONS:
            cut.fail("query", f"has an unknown option {name!r}; known are {', '.join(sorted(_OPTIONS))}")
        try:
            options[name] = _OPTIONS[name](value)
        except ValueError as error:
            cut.fail("query", f"has a wrong {name}: it {error}")
    return options


def _credentials(cut: _Url) -> dict[str, str]:
    # Not `parts.username`: the list of hosts behind the @ is no host to urlsplit.
    user, _, password = cut.parts.netloc.rpartition("@")[0].partition(":")
    pairs = {"username": unquote(user), "password": unquote(password)}
    return {name: value for name, value in pairs.items() if value}


def _path_database(cut: _Url) -> dict[str, int]:
    if cut.scheme == "unix":
        return {}
    segments = [unquote(part) for part in cut.parts.path.strip("/").split("/") if part]
    if cut.topology == "sentinel":
        segments = segments[1:]
    if len(segments) > 1:
        cut.fail("path", f"has too many parts: {cut.parts.path}")
    try:
        return {"db": _database(segments[0])} if segments else {}
    except ValueError as error:
        cut.fail("database", f"{segments[0]!r} {error}")


def _service(cut: _Url) -> str:
    if cut.topology != "sentinel":
        return ""
    name = unquote(cut.parts.path.strip("/").split("/")[0])
    return name or cut.fail("service", "is missing: redis+sentinel://host:port/service")


def _nodes(cut: _Url) -> tuple[Node, ...]:
    if cut.scheme == "unix":
        path = unquote(cut.parts.path)
        if not path or cut.parts.netloc.rpartition("@")[2]:
            cut.fail("path", "is missing or relative: unix:///absolute/path.sock")
        return (Node("", 0, path=path),)
    hosts = cut.parts.netloc.rpartition("@")[2].split(",")
    if len(hosts) > 1 and cut.topology == "single":
        cut.fail("host", "is a list; say redis+sentinel:// or redis+cluster://")
    return tuple(_node(cut, host) for host in hosts)


def _node(cut: _Url, text: str) -> Node:
    sentinel = cut.topology == "sentinel"
    name, _, port = text.rpartition(":") if ":" in text and not text.endswith("]") else (text, "", "")
    name = name.removeprefix("[").removesuffix("]")
    if not name and cut.topology != "single":
        cut.fail("host", f"is missing in {text!r}")
    if port and not (port.isdigit() and 1 <= int(port) <= 65_535):
        cut.fail("port", f"{port!r} is not a number from 1 to 65535")
    default = DEFAULT_SENTINEL_PORT if sentinel else DEFAULT_PORT
    return Node(unquote(name) or "localhost", int(port or default), role="sentinel" if sentinel else "data")
