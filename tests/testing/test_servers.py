"""One server of our own: started, hurt, restarted, ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from lukhas_redis.errors import ServerUnsuitable, Unavailable
from lukhas_redis.testing import RunningServer, ServerBinary, free_port, servers, start_server, wait_until
from tests.fix_servers import StartsServers

pytestmark = pytest.mark.faults


def test_what_was_acknowledged_survives_kill9_with_an_append_only_file(fresh_server: StartsServers) -> None:
    """After kill -9 and restart on the same port the append-only file is loaded."""
    server = fresh_server(config={"appendonly": "yes", "appendfsync": "always"})
    port, pid = server.port, server.pid
    server.admin.set("k", "v")
    server.kill9()
    assert not server.alive
    server.restart()
    assert (server.port, server.admin.get("k")) == (port, b"v")
    assert server.pid != pid


def test_a_server_without_persistence_comes_back_empty(fresh_server: StartsServers) -> None:
    """By default nothing is kept: a restarted server is empty."""
    server = fresh_server()
    server.admin.set("k", "v")
    server.restart()
    assert server.admin.dbsize() == 0


def test_a_paused_server_answers_only_after_resume(fresh_server: StartsServers) -> None:
    """pause() freezes the server, so a client times out; resume() lets it answer, and stop() works on a frozen one."""
    server = fresh_server()
    impatient = server.client(socket_timeout=0.2, retry=None)
    server.pause()
    with pytest.raises(redis.TimeoutError):
        impatient.ping()
    server.resume()
    assert server.admin.ping()
    server.pause()
    server.stop()
    assert not server.alive


def test_a_unix_server_listens_on_its_socket_only(unix_server: RunningServer) -> None:
    """The URL is a unix one, the file is closed to others, and no TCP port is open."""
    assert unix_server.url.startswith("unix:///")
    assert unix_server.client().ping()
    assert unix_server.admin.config_get("port")["port"] == "0"
    assert (unix_server.directory / "server.sock").stat().st_mode & 0o077 == 0


def test_tls_is_verified_against_the_servers_own_authority(tls_server: RunningServer) -> None:
    """The URL carries the authority and works with host name checks on; without the authority the client refuses."""
    assert tls_server.client(ssl_check_hostname=True).ping()
    stranger = redis.Redis(host=tls_server.host, port=tls_server.port, ssl=True, retry=Retry(NoBackoff(), 0))
    with pytest.raises(redis.ConnectionError, match="certificate verify failed"):
        stranger.ping()
    stranger.close()


def test_tls_on_a_program_without_it_is_refused(binary: ServerBinary) -> None:
    """A program built without TLS is named in the error; one with TLS starts."""
    if binary.has_tls:
        with start_server(binary, tls=True) as server:
            assert server.url.startswith("rediss://")
    else:
        with pytest.raises(ServerUnsuitable, match="built without TLS"):
            start_server(binary, tls=True)


def test_users_come_from_the_acl_given(fresh_server: StartsServers) -> None:
    """With an ACL that switches the default user off the server starts, and only the named user gets in."""
    server = fresh_server(acl="user default off\nuser worker on >secret ~* +@all\n")
    assert server.client(username="worker", password="secret").ping()
    with pytest.raises(redis.AuthenticationError):
        server.client(retry=None).ping()


def test_a_password_is_part_of_the_url(fresh_server: StartsServers) -> None:
    """A password with awkward characters is quoted into the URL, so plain clients get in."""
    server = fresh_server(config={"requirepass": "p@ss/word:1"})
    assert server.client().ping()


def test_a_bad_setting_is_reported_with_the_servers_words(binary: ServerBinary, tmp_path: Path) -> None:
    """A server that refuses its configuration gives Unavailable with its own log, and nothing keeps running."""
    with pytest.raises(Unavailable, match="no-such-setting"):
        start_server(binary, config={"no-such-setting": "1"}, dir=tmp_path)
    assert (
        str(tmp_path)
        not in subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True).stdout
    )


def test_a_port_that_is_taken_is_an_error_when_asked_for_and_avoided_when_not(
    binary: ServerBinary, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An explicit port that is taken fails; with a chosen one another is tried."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match="ended while starting"):
            start_server(binary, port=port)
        offers = iter([port, free_port()])
        monkeypatch.setattr(servers, "free_port", lambda: next(offers))
        with start_server(binary) as server:
            assert server.port != port


def test_closing_leaves_nothing(binary: ServerBinary) -> None:
    """close() ends the process and removes the directory it made."""
    with start_server(binary) as server:
        directory, pid = server.directory, server.pid
        assert directory.exists()
    assert not directory.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_directory_of_the_caller_stays(binary: ServerBinary, tmp_path: Path) -> None:
    """A given directory and what is in it are left alone, and a second server finds the data."""
    settings = {"appendonly": "yes"}
    with start_server(binary, dir=tmp_path, config=settings) as first:
        first.admin.set("k", "v")
    with start_server(binary, dir=tmp_path, config=settings) as second:
        assert second.admin.get("k") == b"v"


_STARTER = """
import sys, threading
from lukhas_redis.testing import start_server
started = []
thread = threading.Thread(target=lambda: started.append(start_server()))
thread.start(); thread.join()
print(started[0].pid, started[0].directory, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_servers_end_with_the_process_that_started_them(number: int) -> None:
    """A server started by a thread that has ended lives on; when its process is killed, even by -9, it goes too."""
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with starter:
        assert starter.stdout is not None
        pid, directory = starter.stdout.readline().split()
        os.kill(int(pid), 0)
        starter.send_signal(number)
    wait_until(lambda: not _runs(int(pid)), what="the server ends")
    wait_until(lambda: not Path(directory).exists(), what="its directory is removed")


def _runs(pid: int) -> bool:
    done = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state = done.stdout.strip()  # an unknown process is an exit code of 1 and no line
    return bool(state) and not state.startswith("Z")  # as an orphan in a container it may never be reaped
