"""URLs: what each form means, and which part of a bad one the message names."""

from __future__ import annotations

import pytest

from lukhas_redis.errors import InvalidArgument
from lukhas_redis.settings import Settings
from lukhas_redis.transport.address import plan_of
from lukhas_redis.transport.dialing import Plan
from lukhas_redis.transport.steps import Node

SETTINGS = Settings(url=None)


def plan(url: str) -> Plan:
    """The plan of a URL under default settings."""
    return plan_of(url, SETTINGS)


@pytest.mark.parametrize(
    "url,node,tls",
    [
        ("redis://h", Node("h", 6379), False),
        ("redis://h:1234", Node("h", 1234), False),
        ("valkey://h", Node("h", 6379), False),
        ("rediss://h:1", Node("h", 1), True),
        ("valkeys://h:1", Node("h", 1), True),
        ("redis://[::1]:7", Node("::1", 7), False),
        ("redis://[::1]", Node("::1", 6379), False),
        ("redis://", Node("localhost", 6379), False),
        ("unix:///tmp/a%20b.sock", Node("", 0, path="/tmp/a b.sock"), False),
    ],
)
def test_single_servers(url: str, node: Node, tls: bool) -> None:
    """A URL of one server names its host and port, or its socket, and whether it is encrypted."""
    made = plan(url)
    assert (made.mode, made.seeds, made.tls) == ("single", (node,), tls)


def test_credentials_database_and_options() -> None:
    """User, password and database come from the URL, percent-decoded; options follow the question mark."""
    made = plan("rediss://us%40er:p%2Fw@h/3?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none&ssl_check_hostname=no")
    wanted = {"username": "us@er", "password": "p/w", "db": 3, "ssl_ca_certs": "/ca.pem", "ssl_cert_reqs": "none"}
    assert wanted.items() <= made.options.items()
    assert made.options["ssl_check_hostname"] is False
    assert plan("redis://:only@h").options["password"] == "only"
    assert "username" not in plan("redis://:only@h").options
    assert plan("unix:///s?db=4").options["db"] == 4


def test_sentinels() -> None:
    """Sentinels, the service, the data servers' credentials and the sentinels' own are told apart."""
    made = plan("redis+sentinel://u:p@a:1,b,[::1]:3/svc/2?sentinel_username=su&sentinel_password=sp")
    assert made.mode == "sentinel"
    assert [(n.host, n.port, n.role) for n in made.seeds] == [
        ("a", 1, "sentinel"),
        ("b", 26379, "sentinel"),
        ("::1", 3, "sentinel"),
    ]
    assert (made.service, made.options["db"], made.options["password"]) == ("svc", 2, "p")
    assert (made.sentinel_options["username"], made.sentinel_options["password"]) == ("su", "sp")
    assert "db" not in made.sentinel_options


def test_clusters() -> None:
    """A cluster's URL lists some of its nodes."""
    made = plan("rediss+cluster://a:1,b:2?ssl_cert_reqs=none")
    assert (made.mode, made.tls, made.seeds) == ("cluster", True, (Node("a", 1), Node("b", 2)))


@pytest.mark.parametrize(
    "url,part",
    [
        ("http://h", "scheme"),
        ("h:6379", "scheme"),
        ("", "scheme"),
        ("unix+cluster:///s", "scheme"),
        ("redis+other://h", "scheme"),
        ("redis://h:port", "port"),
        ("redis://h:0", "port"),
        ("redis://h:70000", "port"),
        ("redis://h/x", "database"),
        ("redis://h/-1", "database"),
        ("redis://h/1/2", "path"),
        ("redis://a,b", "host"),
        ("redis://[::1", "host"),
        ("redis+cluster://a,,b", "host"),
        ("redis+sentinel://h", "service"),
        ("redis+cluster://h/1", "database"),
        ("redis://h?unknown=1", "query"),
        ("redis://h?db=x", "query"),
        ("redis://h?ssl_ca_certs=/x", "query"),
        ("rediss://h?ssl_cert_reqs=maybe", "query"),
        ("redis://h?sentinel_password=x", "query"),
        ("redis://h/0#frag", "fragment"),
        ("unix://relative", "path"),
        ("unix://", "path"),
    ],
)
def test_bad_urls_name_the_part(url: str, part: str) -> None:
    """Every bad URL is an InvalidArgument that names its wrong part."""
    with pytest.raises(InvalidArgument) as caught:
        plan(url)
    assert caught.value.fields["part"] == part
    assert part in str(caught.value)


@pytest.mark.parametrize(
    "url", ["redis://u:secret@h:bad", "redis+sentinel://:secret@h", "redis://h?password=secret&db=x", "x://:secret@h"]
)
def test_no_message_shows_a_password(url: str) -> None:
    """A password in a bad URL does not appear in the message."""
    with pytest.raises(InvalidArgument) as caught:
        plan(url)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(caught.value.fields)
