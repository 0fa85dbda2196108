"""The example worker of the compose file, as three processes against a server booted from the shipped files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.errors import ContextNotFound
from lukhas_redis.testing import wait_until
from tests.deploy.deployed import DEPLOY, Deployed
from tests.deploy.test_compose import SERVICES, WORKERS

RELAY = "6c756b68-6173-4265-8c61-790000000001"


@pytest.fixture
def workers(fresh_deployed: Deployed, tmp_path: Path) -> Generator[dict[str, subprocess.Popen[str]]]:
    """Three workers with the environment of the compose file; only places and times are this machine's."""
    here = {
        "LUKHAS_HOST": fresh_deployed.server.host,
        "LUKHAS_PORT": str(fresh_deployed.server.port),
        "LUKHAS_PASSWORD_FILE": str(fresh_deployed.secrets / "worker.password"),
        "WORKER_PAUSE_SECONDS": "0.02",
        "WORKER_TAKEOVER_SECONDS": "1",
    }
    started = {}
    for name in WORKERS:
        environment = {**os.environ, **SERVICES[name]["environment"], **here, "WORKER_ALIVE_FILE": str(tmp_path / name)}
        command = [sys.executable, str(DEPLOY / "worker.py")]
        started[name] = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    yield started
    for process in started.values():
        process.kill()
        process.communicate()


def notes(store: ContextStore) -> list[str]:
    """Who has had a turn, the last ones last."""
    try:
        return list(store.restore(RELAY, touch=False).data["notes"])
    except ContextNotFound:
        return []


def test_workers_take_turns_and_step_over_a_dead_one(
    workers: dict[str, subprocess.Popen[str]], fresh_deployed: Deployed, tmp_path: Path
) -> None:
    """All three have turns; one is killed -9 and the other two go on; the rest ends in order on SIGTERM."""
    with ContextStore.connect(fresh_deployed.url("reader")) as store:
        wait_until(lambda: set(notes(store)) == set(WORKERS), timeout=60)
        # A note is written before the look it belongs to is over.
        wait_until(lambda: {path.name for path in tmp_path.iterdir()} == set(WORKERS))
        dead = WORKERS[1]
        workers[dead].kill()
        workers[dead].wait()
        living = set(WORKERS) - {dead}
        wait_until(lambda: set(notes(store)[-4:]) == living, timeout=60)
        assert store.metadata(RELAY).hop_count > 0
    assert {path.name for path in tmp_path.iterdir()} == set(WORKERS)
    for name in living:
        workers[name].send_signal(signal.SIGTERM)
        said, _ = workers[name].communicate(timeout=30)
        assert workers[name].returncode == 0
        assert json.loads(said.splitlines()[-1]) == {"worker": name, "stopped": True}
