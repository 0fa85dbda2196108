"""Servers that refuse, forget, restart or are configured wrongly: which error, at once or after retries.

What belongs here: answers of a real server in each of its bad states. What does not: broken connections.
"""

from __future__ import annotations

from threading import Thread
from typing import Any

import pytest
import redis

from lukhas_redis.calls import Refused
from lukhas_redis.errors import AccessDenied, LukhasRedisError, OutOfMemory, ServerUnsuitable, Unavailable, WrongKeyType
from lukhas_redis.testing import RunningServer, TcpProxy, wait_until
from tests.fix_servers import StartsServers
from tests.unit.transport.scripts_for_tests import (
    BROKEN,
    LOOK,
    SPIN,
    asking,
    asking_all,
    count_call,
    counter_key,
    read,
    simple_call,
    take_call,
)
from tests.unit.transport.shells import Shell, on_both_shells

pytestmark = [pytest.mark.faults, on_both_shells]


def test_a_flushed_script_cache_is_not_noticed(shell: type[Shell], server: RunningServer, tenant: str) -> None:
    """SCRIPT FLUSH between calls, and inside staged calls and snapshots, is mended without the caller."""
    with shell(server.url) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        server.command("SCRIPT", "FLUSH")
        assert used.run(asking_all(*[count_call(tenant, f"b{n}") for n in range(10)])) == list(range(2, 12))
        server.command("SCRIPT", "FLUSH")
        assert used.run(asking(take_call(tenant, b"x" * 100_000))) == 100_000


def test_a_server_killed_and_restarted_under_load_loses_no_call(
    shell: type[Shell], fresh_server: StartsServers, tenant: str
) -> None:
    """Calls in flight while the server is killed and comes back are answered, each with one effect."""
    server = fresh_server(config={"appendonly": "yes", "appendfsync": "always"})
    with shell(server.url, call_timeout_seconds=30.0) as used:
        used.ready()
        restarting = Thread(target=_kill_and_restart, args=(server,))
        restarting.start()
        replies = used.together(asking(count_call(tenant, f"id{n}")) for n in range(300))
        restarting.join()
        assert sorted(replies) == sorted(set(replies)), [r for r in replies if not isinstance(r, int)][:1]
    assert server.admin.get(counter_key(tenant)) == b"300"


def _kill_and_restart(server: RunningServer) -> None:
    server.kill9()
    server.restart()


def test_a_busy_server_is_waited_for(shell: type[Shell], fresh_server: StartsServers, tenant: str) -> None:
    """BUSY is retried until the deadline and then unavailable; once the script is killed, calls work."""
    server = fresh_server(config={"busy-reply-threshold": "1"})
    with shell(server.url, call_timeout_seconds=1.0) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        spinning = Thread(target=_spin, args=(server, tenant))
        spinning.start()
        wait_until(lambda: _says_busy(server), what="BUSY")
        with pytest.raises(Unavailable, match="BUSY"):
            used.run(asking(count_call(tenant, "b")))
        server.command("SCRIPT", "KILL")
        spinning.join()
        assert used.run(asking(count_call(tenant, "b"))) == 2


def _spin(server: RunningServer, tenant: str) -> None:
    with server.client(socket_timeout=60) as client, pytest.raises(redis.ResponseError, match="killed"):
        client.eval(SPIN.text, 1, counter_key(tenant))


def _says_busy(server: RunningServer) -> bool:
    try:
        server.command("GET", "x")
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")
    return False


def test_a_full_server_refuses_writes_at_once_and_still_reads(
    shell: type[Shell], fresh_server: StartsServers, tenant: str
) -> None:
    """At maxmemory a write is OutOfMemory without retries and changes nothing; a read-only script still answers."""
    server = fresh_server()
    with shell(server.url) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        used.run(asking(simple_call(LOOK, tenant)))
        server.config_set("maxmemory", "1")
        calls = server.info("stats")["total_commands_processed"]
        with pytest.raises(OutOfMemory) as caught:
            used.run(asking(count_call(tenant, "b")))
        assert server.info("stats")["total_commands_processed"] - calls <= 4
        assert caught.value.retryable
        assert used.run(asking(simple_call(LOOK, tenant))) == 1
        with pytest.raises(OutOfMemory):
            used.run(asking(take_call(tenant, b"x" * 100_000)))


@pytest.mark.parametrize(
    "setting,bad,good,word", [("min-replicas-to-write", "1", "0", "NOREPLICAS")], ids=["NOREPLICAS"]
)
def test_a_server_that_cannot_write_now_is_waited_for(
    shell: type[Shell], fresh_server: StartsServers, tenant: str, setting: str, bad: str, good: str, word: str
) -> None:
    """A passing refusal is retried until the deadline and then unavailable; nothing was written."""
    server = fresh_server()
    with shell(server.url, call_timeout_seconds=1.0) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        server.config_set(setting, bad)
        with pytest.raises(Unavailable, match=word):
            used.run(asking(count_call(tenant, "b")))
        server.config_set(setting, good)
        assert used.run(asking(count_call(tenant, "b"))) == 2


def test_a_server_that_cannot_save_is_waited_for(shell: type[Shell], fresh_server: StartsServers, tenant: str) -> None:
    """MISCONF is retried until the deadline and then unavailable; nothing was written."""
    server = fresh_server(config={"save": "3600 1", "dbfilename": "dump.rdb"})
    with shell(server.url, call_timeout_seconds=1.0) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        (server.directory / "dump.rdb").unlink(missing_ok=True)
        (server.directory / "dump.rdb").mkdir()
        server.command("BGSAVE")
        wait_until(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err", what="a failed BGSAVE")
        with pytest.raises(Unavailable, match="MISCONF"):
            used.run(asking(count_call(tenant, "b")))
        server.config_set("stop-writes-on-bgsave-error", "no")
        assert used.run(asking(count_call(tenant, "b"))) == 2


def test_a_wrong_password_fails_with_one_connection(
    shell: type[Shell], fresh_server: StartsServers, tenant: str
) -> None:
    """A wrong password is AccessDenied after a single connection: waiting cannot make it right."""
    server = fresh_server(config={"requirepass": "right"})
    with TcpProxy.to(server) as proxy:
        url = proxy.url_for(server).replace("right", "wrong")
        with shell(url) as used, pytest.raises(AccessDenied, match="WRONGPASS") as caught:
            used.run(asking(count_call(tenant, "a")))
        assert proxy.connections == 1
    assert not caught.value.retryable
    assert "wrong@" not in str(caught.value)


def test_a_missing_password_is_access_denied(shell: type[Shell], fresh_server: StartsServers, tenant: str) -> None:
    """No password where one is needed is AccessDenied, by NOAUTH."""
    server = fresh_server(config={"requirepass": "right"})
    with shell(f"redis://{server.host}:{server.port}") as used, pytest.raises(AccessDenied, match="NOAUTH"):
        used.run(asking(count_call(tenant, "a")))


def _user(server: RunningServer, *rights: str) -> str:
    server.command("ACL", "SETUSER", "worker", "on", ">pw", "~*", "+@all", *rights)
    return f"redis://worker:pw@{server.host}:{server.port}"


@pytest.mark.parametrize(
    "right,named",
    [("-evalsha", "evalsha"), ("-incrby", "lua/count.lua:17"), ("-info", "info"), ("-script|load", "script|load")],
)
def test_a_missing_right_is_access_denied_at_once(
    shell: type[Shell], fresh_server: StartsServers, tenant: str, right: str, named: str
) -> None:
    """A command the user lacks is AccessDenied, not retried; the message names it, or the line of the script."""
    server = fresh_server()
    with shell(_user(server, right)) as used, pytest.raises(AccessDenied) as caught:
        used.run(asking(count_call(tenant, "a")))
    assert named in str(caught.value).lower().replace("script load", "script|load")


def test_a_forbidden_key_is_access_denied(shell: type[Shell], fresh_server: StartsServers, tenant: str) -> None:
    """A key outside the user's patterns is AccessDenied, and nothing was written."""
    server = fresh_server()
    server.command("ACL", "SETUSER", "narrow", "on", ">pw", "~other:*", "+@all")
    with shell(f"redis://narrow:pw@{server.host}:{server.port}") as used, pytest.raises(AccessDenied):
        used.run(asking(count_call(tenant, "a")))
    assert server.admin.exists(counter_key(tenant)) == 0


def test_too_many_clients_is_unavailable_and_recovers(
    shell: type[Shell], fresh_server: StartsServers, tenant: str
) -> None:
    """A server without room for another client is unavailable, by name, and usable once there is room."""
    server = fresh_server()
    with shell(server.url, call_timeout_seconds=1.0) as used:
        clients: list[Any] = [server.client() for _ in range(3)]
        for client in clients:
            client.ping()
        server.config_set("maxclients", len(clients) + 1)
        with pytest.raises(Unavailable, match="max number of clients"):
            used.run(asking(count_call(tenant, "a")))
        server.config_set("maxclients", 100)
        for client in clients:
            client.close()
        assert used.run(asking(count_call(tenant, "a"))) == 1


def test_a_key_of_another_type_is_named(shell: type[Shell], server: RunningServer, tenant: str) -> None:
    """WRONGTYPE becomes an error that names the key, what it holds, and what it should; it is not retried."""
    server.admin.rpush(counter_key(tenant), 1)
    with shell(server.url) as used, pytest.raises(WrongKeyType) as caught:
        used.run(asking(count_call(tenant, "a")))
    assert f"{counter_key(tenant)} holds a list, not a string" in str(caught.value)


def test_a_refusal_of_a_script_keeps_its_facts(shell: type[Shell], server: RunningServer, tenant: str) -> None:
    """A code word returned by a script arrives as Refused with its facts, also among others."""
    with shell(server.url) as used:
        with pytest.raises(Refused) as caught:
            used.run(asking(count_call(tenant, "a", by=101)))
        assert caught.value.word == "LKLIMIT"
        assert caught.value.number("limit") == 100
        good, bad = used.run(asking_all(count_call(tenant, "b"), count_call(tenant, "c", by=500)))
    assert good == 1
    assert isinstance(bad, Refused)
    assert bad.number("by") == 500


def test_a_mistake_in_a_script_names_its_file_and_line(shell: type[Shell], server: RunningServer, tenant: str) -> None:
    """A run-time error of a script is reported with the place in lua/ where it happened."""
    with shell(server.url) as used, pytest.raises(LukhasRedisError, match=r"lua/broken\.lua:7") as caught:
        used.run(asking(simple_call(BROKEN, tenant, request_id="r")))
    assert not isinstance(caught.value, Unavailable)


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_evicts_is_unsuitable(
    shell: type[Shell], fresh_server: StartsServers, tenant: str, policy: str
) -> None:
    """A maxmemory-policy other than noeviction is refused with the command that mends it, unless that is accepted."""
    server = fresh_server(config={"maxmemory-policy": policy})
    with shell(server.url) as used:
        with pytest.raises(ServerUnsuitable, match="CONFIG SET maxmemory-policy noeviction"):
            used.run(asking(count_call(tenant, "a")))
        server.config_set("maxmemory-policy", "noeviction")
        assert used.run(asking(count_call(tenant, "a"))) == 1
    server.config_set("maxmemory-policy", policy)
    with shell(server.url, require_noeviction=False) as used:
        assert used.run(asking(count_call(tenant, "b"))) == 2


def test_a_replica_is_unsuitable(shell: type[Shell], fresh_server: StartsServers, tenant: str) -> None:
    """A plain URL that leads to a replica is refused and the primary is named."""
    primary, replica = fresh_server(), fresh_server()
    replica.command("REPLICAOF", primary.host, primary.port)
    with shell(replica.url) as used, pytest.raises(ServerUnsuitable, match=f"{primary.host}:{primary.port}"):
        used.ready()


def test_ready_tells_the_flavor_and_version(shell: type[Shell], server: RunningServer) -> None:
    """After `ready()` the transport knows what it is connected to."""
    with shell(server.url) as used:
        found = used.ready()
    assert found is not None
    assert (found.flavor, found.version, found.mode) == (server.flavor, server.version, "single")


def test_what_only_reads_is_answered_while_memory_is_short(
    shell: type[Shell], fresh_server: StartsServers, tenant: str
) -> None:
    """Plain reads do not depend on free memory."""
    server = fresh_server()
    with shell(server.url) as used:
        used.run(asking(count_call(tenant, "a")))
        server.config_set("maxmemory", "1")
        assert used.run(asking(read(tenant, "GET", counter_key(tenant)))) == b"1"
