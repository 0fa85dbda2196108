"""Connections shared by tasks, threads, event loops and processes, and connections given by a redis-py client.

What belongs here: who uses which connection, and that nobody spoils another's. What does not: retries.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio

from lukhas_redis.errors import InvalidArgument, Unavailable
from lukhas_redis.settings import Settings
from lukhas_redis.testing import RunningServer, TcpProxy, wait_until, wait_until_async
from lukhas_redis.transport import AsyncTransport, SyncTransport
from tests.fix_servers import StartsServers
from tests.unit.transport.scripts_for_tests import (
    LOOK,
    asking,
    asking_all,
    count_call,
    counter_key,
    read,
    simple_call,
    take_call,
)
from tests.unit.transport.shells import Shell, on_both_shells


def _named(server: RunningServer, name: str) -> list[dict[str, Any]]:
    return [client for client in server.admin.client_list() if f":{name}:" in client["name"]]


async def test_cancelled_callers_disturb_nobody(server: RunningServer, proxy: TcpProxy, tenant: str) -> None:
    """Half of forty callers are cancelled while their commands are in flight: the others get their own replies."""
    async with AsyncTransport(proxy.url_for(server), Settings()) as transport:
        for number in range(40):
            server.admin.set(f"t:{{{tenant}}}:{number}", number)
        await transport.run(asking(simple_call(LOOK, tenant)))
        connections = proxy.connections
        proxy.pause()
        tasks = [asyncio.create_task(transport.run(asking(_look_at(tenant, number)))) for number in range(40)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        proxy.resume()
        replies = await asyncio.gather(*tasks, return_exceptions=True)
        assert replies[1::2] == list(range(1, 40, 2))
        assert all(isinstance(reply, asyncio.CancelledError) for reply in replies[::2])
        # The connection stayed in step: it is still used, and still answers in order.
        assert await transport.run(asking(_look_at(tenant, 7))) == 7
        assert proxy.connections <= connections + 1


def _look_at(tenant: str, number: int) -> Any:
    from lukhas_redis.calls import Call

    return Call(LOOK, tenant, LOOK.pack({"counter": f"t:{{{tenant}}}:{number}"}, {}))


async def test_a_cancelled_staged_call_leaves_no_dirty_connection(
    server: RunningServer, proxy: TcpProxy, tenant: str
) -> None:
    """Cancelling a call that has a connection of its own closes that connection; the next one gets a clean one."""
    async with AsyncTransport(proxy.url_for(server), Settings()) as transport:
        assert await transport.run(asking(take_call(tenant, b"x" * 70_000, "a"))) == 70_000
        proxy.pause()
        task = asyncio.create_task(transport.run(asking(take_call(tenant, b"y" * 70_000, "b"))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        proxy.resume()
        assert await transport.run(asking(take_call(tenant, b"z" * 80_000, "c"))) == 80_000


async def test_calls_of_one_turn_leave_together(server: RunningServer, proxy: TcpProxy, tenant: str) -> None:
    """A thousand concurrent calls need no more than the shared connections, and all are answered."""
    async with AsyncTransport(proxy.url_for(server), Settings()) as transport:
        replies = await asyncio.gather(
            *(transport.run(asking(count_call(tenant, f"id{number}"))) for number in range(1000))
        )
        assert sorted(replies) == list(range(1, 1001))
        assert proxy.connections <= 2


async def test_the_order_of_submission_is_kept(server: RunningServer, tenant: str) -> None:
    """Calls of one turn that share a connection are executed in the order in which they were made."""
    async with AsyncTransport(server.url, Settings(max_connections=1)) as transport:
        await transport.run(asking(count_call(tenant, "first")))
        replies = await asyncio.gather(
            *(transport.run(asking(count_call(tenant, f"id{number}"))) for number in range(300))
        )
    assert replies == list(range(2, 302))


async def test_many_staged_calls_wait_their_turn(server: RunningServer, tenant: str) -> None:
    """More staged calls than connections: each waits for one and none is refused."""
    async with AsyncTransport(server.url, Settings(max_connections=4)) as transport:
        replies = await asyncio.gather(
            *(transport.run(asking(take_call(tenant, bytes(70_000), f"id{number}"))) for number in range(40))
        )
    assert replies == [70_000] * 40


def test_two_event_loops_have_their_own_connections(server: RunningServer, tenant: str) -> None:
    """One transport used from two event loops, one after the other and at once, works in both."""
    transport = AsyncTransport(server.url, Settings(client_name=tenant))

    async def one(name: str) -> int:
        reply: int = await transport.run(asking(count_call(tenant, name)))
        return reply

    async def closing(name: str) -> int:
        try:
            return await one(name)
        finally:
            await transport.close()

    assert asyncio.run(closing("a")) == 1
    assert asyncio.run(closing("b")) == 2
    with ThreadPoolExecutor(2) as threads:
        replies = list(threads.map(lambda name: asyncio.run(closing(name)), ("c", "d")))
    assert sorted(replies) == [3, 4]
    wait_until(lambda: _named(server, tenant) == [], what="all connections to be closed")


def test_a_forked_child_has_its_own_connections(server: RunningServer, tenant: str) -> None:
    """After a fork parent and child both go on; their replies are not mixed up."""
    with SyncTransport(server.url, Settings()) as transport:
        assert transport.run(asking(count_call(tenant, "parent"))) == 1
        child = os.fork()
        if child == 0:
            ok = all(transport.run(asking(count_call(tenant, f"child{n}"))) > 1 for n in range(50))
            os._exit(0 if ok else 1)
        replies = [transport.run(asking(count_call(tenant, f"parent{n}"))) for n in range(50)]
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert replies == sorted(replies)
    assert server.admin.get(counter_key(tenant)) == b"101"


def test_threads_share_a_sync_transport(server: RunningServer, tenant: str) -> None:
    """Sixteen threads use one transport with four connections: every call has its own effect and answer."""
    with SyncTransport(server.url, Settings(max_connections=4)) as transport, ThreadPoolExecutor(16) as threads:
        replies = list(threads.map(lambda n: transport.run(asking(count_call(tenant, f"id{n}"))), range(400)))
    assert sorted(replies) == list(range(1, 401))


def test_an_exhausted_pool_is_unavailable(server: RunningServer, proxy: TcpProxy, tenant: str) -> None:
    """All connections in use until the deadline: the call was not sent, so it is unavailable, not unknown."""
    settings = Settings(max_connections=1, call_timeout_seconds=1.0, socket_timeout_seconds=30)
    with SyncTransport(proxy.url_for(server), settings) as transport, ThreadPoolExecutor(8) as threads:
        transport.run(asking(count_call(tenant, "a")))
        proxy.pause()
        results = [threads.submit(transport.run, asking(count_call(tenant, f"b{n}"))) for n in range(8)]
        errors = [result.exception() for result in results]
        proxy.resume()
        assert any(isinstance(error, Unavailable) and "in use" in str(error) for error in errors), errors
        assert transport.run(asking(count_call(tenant, "d"))) > 1


@on_both_shells
def test_connections_are_named(shell: type[Shell], server: RunningServer, tenant: str) -> None:
    """The server lists our connections as lukhas:<name>:<pid>, with the library where it can."""
    with shell(server.url, client_name=tenant) as used:
        used.run(asking(count_call(tenant, "a")))
        (found,) = _named(server, tenant)
    assert found["name"] == f"lukhas:{tenant}:{os.getpid()}"
    if server.flavor == "valkey":
        assert "lukhas-redis" in found["lib-name"]


@on_both_shells
@pytest.mark.parametrize("library", [redis, redis.asyncio], ids=["redis", "redis.asyncio"])
def test_a_redis_py_client_lends_its_address_and_credentials(
    shell: type[Shell], fresh_server: StartsServers, tenant: str, library: Any
) -> None:
    """A client of either kind serves both shells; its database, user and password are used, its protocol is not."""
    server = fresh_server()
    server.command("ACL", "SETUSER", "worker", "on", ">pw", "~*", "+@all")
    client = library.Redis(host=server.host, port=server.port, username="worker", password="pw", db=3, protocol=3)
    with shell(client) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        assert used.run(asking_all(read(tenant, "GET", counter_key(tenant)))) == [b"1"]
    assert redis.Redis(host=server.host, port=server.port, db=3).get(counter_key(tenant)) == b"1"


@on_both_shells
def test_a_client_that_decodes_is_refused(shell: type[Shell], server: RunningServer) -> None:
    """A client with decode_responses=True is refused at once: contexts are bytes."""
    client = redis.Redis(host=server.host, port=server.port, decode_responses=True)
    with pytest.raises(InvalidArgument, match="decode_responses"):
        shell(client)


async def test_closing_ends_every_connection(server: RunningServer, tenant: str) -> None:
    """After `close()` the server lists no connection of ours, and the next call opens a new one."""
    transport = AsyncTransport(server.url, Settings(client_name=tenant))
    await transport.run(asking(count_call(tenant, "a")))
    await transport.run(asking(take_call(tenant, b"x" * 70_000, "b")))
    await transport.close()

    async def gone() -> bool:
        return not await asyncio.to_thread(_named, server, tenant)

    await wait_until_async(gone, what="closed connections")
    assert await transport.run(asking(count_call(tenant, "c"))) == 2
    await transport.close()


@on_both_shells
def test_a_unix_socket_serves(shell: type[Shell], unix_server: RunningServer, tenant: str) -> None:
    """A unix socket works as a port does, with its closed connections noticed as well."""
    with shell(unix_server.url) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        unix_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        assert used.run(asking(count_call(tenant, None))) == 2
        assert used.run(asking(take_call(tenant, b"x" * 100_000))) == 100_000


@on_both_shells
def test_tls_serves(shell: type[Shell], tls_server: RunningServer, tenant: str) -> None:
    """Encrypted connections carry small calls, large ones and many at once, and survive being cut."""
    with shell(tls_server.url) as used:
        assert used.run(asking(count_call(tenant, "a"))) == 1
        assert used.run(asking(take_call(tenant, bytes(range(256)) * 4000))) == 1_024_000
        assert used.run(asking(read(tenant, "GET", f"t:{{{tenant}}}:body"))) == bytes(range(256)) * 4000
        tls_server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        replies = used.together(asking(count_call(tenant, f"id{n}")) for n in range(100))
        assert sorted(replies) == list(range(2, 102))


@on_both_shells
def test_a_certificate_that_is_not_trusted_is_refused(
    shell: type[Shell], tls_server: RunningServer, tenant: str
) -> None:
    """Without its authority the server's certificate is not accepted; nothing is sent."""
    url = tls_server.url.split("?")[0]
    with shell(url, call_timeout_seconds=1.0) as used, pytest.raises(Unavailable, match=r"(?i)certificate"):
        used.run(asking(count_call(tenant, "a")))
