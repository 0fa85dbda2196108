"""Fixtures of the command line: running `lukhas` against a server, and a store to prepare what it looks at.

What belongs here: fixtures. What does not: the runner itself (`running`).
Invariant: no `LUKHAS_*` variable of the machine reaches a test.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest

from lukhas_redis import ContextStore, Settings
from lukhas_redis.testing import RunningServer
from tests.cli.running import Lukhas


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("LUKHAS_") and "TEST" not in name]:
        monkeypatch.delenv(name)
    # A mistake in a test must not start a server in the home of whoever runs it.
    monkeypatch.setenv("LUKHAS_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def lukhas(server: RunningServer, tenant: str, capsysbinary: pytest.CaptureFixture[bytes]) -> Lukhas:
    """`lukhas` for the test's tenant, in this process."""
    return Lukhas(capsysbinary, "--url", server.url, "--tenant", tenant)


@pytest.fixture
def bare(capsysbinary: pytest.CaptureFixture[bytes]) -> Lukhas:
    """`lukhas` without any option."""
    return Lukhas(capsysbinary)


@pytest.fixture
def store(server: RunningServer, tenant: str) -> Generator[ContextStore]:
    """A store of the test's tenant."""
    with ContextStore.connect(server.url, tenant=tenant, settings=Settings(metrics=False, min_ttl_seconds=1)) as store:
        yield store
