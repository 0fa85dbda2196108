"""Fixtures: state directories for embedded servers."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from lukhas_redis.embedded.locks import is_held
from lukhas_redis.testing import wait_until


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A short state directory of the test's own; whatever it started is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="le-") as path:
        monkeypatch.setenv("LUKHAS_STATE_DIR", path)
        yield Path(path)
        for lock in Path(path).rglob("server.lock"):
            _end(lock.parent)


def _end(home: Path) -> None:
    if is_held(home / "server.lock"):  # so the last one started is still there
        os.kill(json.loads((home / "server.json").read_text())["pid"], signal.SIGKILL)
    wait_until(lambda: not is_held(home / "server.lock"), what="the embedded server is gone")
