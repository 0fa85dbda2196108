"""The fault proxy: what each fault does, seen from a plain client and from the server."""

from __future__ import annotations

import socket
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lukhas_redis.testing import RunningServer, TcpProxy, wait_until

pytestmark = pytest.mark.faults


def _connect(proxy: TcpProxy, server: RunningServer, **options: Any) -> redis.Redis:
    return redis.Redis.from_url(proxy.url_for(server), retry=Retry(NoBackoff(), 0), **options)


@pytest.fixture
def client(proxy: TcpProxy, server: RunningServer) -> Generator[redis.Redis]:
    """A client that never retries, by way of the proxy."""
    with _connect(proxy, server) as client:
        yield client


def test_without_a_fault_everything_passes_and_is_counted(proxy: TcpProxy, client: redis.Redis, tenant: str) -> None:
    """Bytes of any size go through unchanged in both directions and are counted."""
    body = bytes(range(256)) * 4096
    client.set(tenant, body)
    assert client.get(tenant) == body
    assert proxy.counters.bytes_to_server > len(body) < proxy.counters.bytes_to_client
    assert (proxy.connections, proxy.open_connections, proxy.dropped) == (1, 1, 0)


def test_a_dropped_reply_means_executed_but_unanswered(
    proxy: TcpProxy, client: redis.Redis, server: RunningServer, tenant: str
) -> None:
    """Each of three dropped replies ends the connection; the server has executed all three; the fourth is answered."""
    proxy.drop_replies(3)
    for _ in range(3):
        with pytest.raises(redis.ConnectionError):
            client.incr(tenant)
    assert server.client().get(tenant) == b"3"
    assert client.incr(tenant) == 4
    assert proxy.dropped == 3


def test_only_the_named_command_loses_its_reply(proxy: TcpProxy, client: redis.Redis, tenant: str) -> None:
    """With a command named, others are answered and the drop waits for it."""
    proxy.drop_replies(1, command="append")
    assert client.set(tenant, "1")
    with pytest.raises(redis.ConnectionError):
        client.append(tenant, "2")
    assert client.get(tenant) == b"12"


def test_a_pipeline_is_executed_up_to_the_dropped_reply(
    proxy: TcpProxy, client: redis.Redis, server: RunningServer, tenant: str
) -> None:
    """A large value and the command after it, sent as one pipeline, are both executed before the connection closes."""
    pipeline = client.pipeline(transaction=False)
    pipeline.set(tenant, b"x" * 3_000_000)
    pipeline.append(tenant, "y")
    proxy.drop_replies(1, command="APPEND")
    with pytest.raises(redis.ConnectionError):
        pipeline.execute()
    assert server.client().strlen(tenant) == 3_000_001


def test_refuse_ends_connections_and_accepts_none_until_told(proxy: TcpProxy, client: redis.Redis) -> None:
    """refuse() resets what is open and connecting fails; accept() listens again on the same port."""
    assert client.ping()
    proxy.refuse()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, proxy.port))
    proxy.accept()
    assert client.ping()


def test_cut_resets_open_connections_only(proxy: TcpProxy, client: redis.Redis) -> None:
    """cut() resets what is open; the next connection works."""
    with socket.create_connection((proxy.host, proxy.port)) as raw:
        wait_until(lambda: proxy.open_connections == 1, what="the connection is through")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            raw.recv(64)
    assert client.ping()
    assert proxy.connections == 2


def test_a_reply_can_be_cut_in_the_middle(proxy: TcpProxy, client: redis.Redis, tenant: str) -> None:
    """cut_after() lets exactly so many bytes of replies pass and then closes."""
    client.set(tenant, b"x" * 100_000)
    before = proxy.counters.bytes_to_client
    proxy.cut_after(50_000)
    with pytest.raises(redis.ConnectionError):
        client.get(tenant)
    assert proxy.counters.bytes_to_client - before == 50_000
    proxy.cut_after(None)
    assert client.strlen(tenant) == 100_000


def test_half_closed_means_requests_arrive_and_replies_do_not(
    proxy: TcpProxy, client: redis.Redis, server: RunningServer, tenant: str
) -> None:
    """After half_close() a write on the same connection still reaches the server, while the client reads the end."""
    with socket.create_connection((proxy.host, proxy.port)) as raw:
        raw.sendall(b"*1\r\n$4\r\nPING\r\n")
        assert raw.recv(64) == b"+PONG\r\n"
        proxy.half_close()
        assert raw.recv(64) == b""
        raw.sendall(f"*3\r\n$3\r\nSET\r\n${len(tenant)}\r\n{tenant}\r\n$1\r\nv\r\n".encode())
        wait_until(lambda: server.client().get(tenant) == b"v", what="the write arrives")


def test_a_paused_proxy_is_silent_and_loses_nothing(
    proxy: TcpProxy, client: redis.Redis, server: RunningServer, tenant: str
) -> None:
    """While paused nothing passes and a client times out; resumed, what another client sent arrives and is answered."""
    assert client.ping()
    proxy.pause()
    with ThreadPoolExecutor(1) as pool, _connect(proxy, server, socket_timeout=0.1) as impatient:
        answer = pool.submit(client.incr, tenant)
        with pytest.raises(redis.TimeoutError):
            impatient.ping()
        assert server.client().get(tenant) is None
        proxy.resume()
        assert answer.result(30) == 1


def test_a_delay_outlasts_a_clients_patience(proxy: TcpProxy, server: RunningServer) -> None:
    """With a delay longer than the client's timeout the client gives up; without it the same client is answered."""
    with _connect(proxy, server, socket_timeout=0.3) as client:
        assert client.ping()
        proxy.delay(60_000)
        with pytest.raises(redis.TimeoutError):
            client.ping()
        proxy.heal()
        assert client.ping()


def test_closing_ends_connections_and_the_thread(server: RunningServer) -> None:
    """After close() the port is free and its thread has ended; closing twice is fine."""
    with TcpProxy.to(server) as proxy:
        client = _connect(proxy, server)
        assert client.ping()
    proxy.close()
    with pytest.raises(redis.ConnectionError):
        client.ping()
    assert not proxy._thread.is_alive()
    client.close()


def test_the_url_keeps_credentials_and_options(server: RunningServer) -> None:
    """url_for() changes host and port only."""

    class Named:
        url, host, port = "rediss://u:p%40@10.0.0.1:6379/2?ssl_ca_certs=x", "10.0.0.1", 6379

    with TcpProxy.to(server) as proxy:
        assert proxy.url_for(Named()) == f"rediss://u:p%40@127.0.0.1:{proxy.port}/2?ssl_ca_certs=x"
