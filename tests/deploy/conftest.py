"""Fixtures: servers booted from the files of `deploy/`, one of each program found."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from lukhas_redis.testing import ServerBinary
from tests.deploy.deployed import Deployed, boot, make_secrets


@pytest.fixture(scope="session")
def secrets(binary: ServerBinary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Passwords and ACL file for one program."""
    return make_secrets(binary, tmp_path_factory.mktemp("secrets") / "made", "--tenant", "acme")


@pytest.fixture(scope="session")
def deployed(binary: ServerBinary, secrets: Path) -> Generator[Deployed]:
    """A server with the shipped configuration and users; tests share it and change no setting."""
    deployed = boot(binary, secrets)
    yield deployed
    deployed.server.close()


@pytest.fixture
def fresh_deployed(binary: ServerBinary, secrets: Path) -> Generator[Deployed]:
    """The same, empty, for one test."""
    deployed = boot(binary, secrets)
    yield deployed
    deployed.server.close()
