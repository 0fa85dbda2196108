"""docs/operations.md does what it says: its commands are run, in its order, with its users.

What belongs here: the document's `sh` blocks and the procedures that its text describes. What does not: rights.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.bus import ContextBus
from lukhas_redis.errors import ContextDropped
from lukhas_redis.functions import library
from lukhas_redis.testing import ServerBinary, start_sentinels, wait_until
from lukhas_redis.testing.servers import RunningServer
from tests.deploy.deployed import DEPLOY, Deployed, boot

DOC = DEPLOY.parent / "docs" / "operations.md"
BLOCK = re.compile(r"^( *)```sh\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
EXPECTED = re.compile(r"# -> (.+)$")
CONTEXT = "1b4e28ba-2fa1-4d2b-883f-0016d3cca427"


def blocks() -> list[str]:
    """The text of every `sh` block."""
    return [textwrap.dedent(text) for _, text in BLOCK.findall(DOC.read_text(encoding="utf-8"))]


def test_every_block_is_found_and_nearly_every_command_says_what_it_answers() -> None:
    """The document has its blocks, and of its commands more than half name a part of their answer."""
    commands = [line for text in blocks()[1:] for line in text.splitlines()]
    assert len(commands) > 35
    assert sum(bool(EXPECTED.search(line)) for line in commands) > len(commands) / 2
    assert all(line.startswith(("r ", "a ")) for line in commands)


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="needs redis-cli")
def test_every_command_of_the_document_works(fresh_deployed: Deployed) -> None:
    """Run from top to bottom each command succeeds, and its answer holds what the document says."""
    with ContextStore.connect(fresh_deployed.url("worker")) as store:
        store.preserve("s", {"a": 1}, context_id=CONTEXT)
        store.handoff(CONTEXT, "worker-0", "worker-1")
    pile_up(fresh_deployed)
    with fresh_deployed.client("deploy") as deploy:
        deploy.function_load(library(), replace=True)
    setup, *rest = blocks()
    setup = setup.replace("secrets/", f"{fresh_deployed.secrets}/").replace(
        "-p 6379", f"-p {fresh_deployed.server.port}"
    )
    for line in (line for text in rest for line in text.splitlines()):
        done = subprocess.run(
            ["bash", "-c", f"set -eu -o pipefail\n{setup}\n{line}"],
            capture_output=True,
            text=True,
            errors="replace",  # payloads are MessagePack
            check=False,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert not re.search(r"^\(error\)|^ERR|^NOPERM|^LK[A-Z]+ ", done.stdout, re.MULTILINE), f"{line}\n{done.stdout}"
        wanted = EXPECTED.search(line)
        assert not wanted or wanted[1].strip() in done.stdout, f"{line}\n{done.stdout}"
    with ContextStore.connect(fresh_deployed.url("reader")) as store, pytest.raises(ContextDropped):
        store.restore(CONTEXT)


def pile_up(deployed: Deployed) -> None:
    """Leave events behind: two dead letters, one that waits for a retry, one in hand; a group that nobody works for."""
    with (
        ContextBus.connect(settings=deployed.settings("worker")) as bus,
        ContextBus.connect(settings=deployed.settings("worker", bus_max_deliveries=1)) as last,
    ):
        bus.read("archivers")
        for number in range(4):
            bus.emit("draft.written", {"number": number})
        for event in last.read("reviewers", count=2):
            assert last.retry("reviewers", event, error="no such reviewer").state == "DEAD"
        waits, _ = bus.read("reviewers", count=2)
        bus.retry("reviewers", waits, delay=600)


def test_a_snapshot_is_restored_as_the_document_says(binary: ServerBinary, fresh_deployed: Deployed) -> None:
    """dump.rdb, then --appendonly no, then CONFIG SET appendonly yes, then the shipped file: the context is there."""
    with ContextStore.connect(fresh_deployed.url("worker")) as store:
        kept = store.preserve("s", {"a": 1})
    with fresh_deployed.client("admin") as admin:
        admin.bgsave()
        wait_until(lambda: saved(fresh_deployed.server), timeout=30)
    other = boot(binary, fresh_deployed.secrets)
    with other.server as server:
        server.stop()
        shutil.rmtree(server.directory / "appendonlydir")
        shutil.copy(fresh_deployed.server.directory / "dump.rdb", server.directory / "dump.rdb")
        server.process.command += ["--appendonly", "no"]
        server.start()
        server.config_set("appendonly", "yes")
        wait_until(lambda: rewritten(server), timeout=30)
        server.stop()
        server.process.command = server.process.command[:-2]
        server.start()
        with ContextStore.connect(settings=other.settings("worker", durability="local")) as store:
            assert store.restore(kept.context_id).data == {"a": 1}


def saved(server: RunningServer) -> bool:
    """Whether a snapshot was written and none is being written."""
    facts = server.info("persistence")
    return not facts["rdb_bgsave_in_progress"] and (server.directory / "dump.rdb").exists()


def rewritten(server: RunningServer) -> bool:
    """Whether the append-only file holds everything."""
    facts = server.info("persistence")
    return not facts["aof_rewrite_in_progress"] and not facts["aof_rewrite_scheduled"]


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="needs redis-cli")
def test_a_password_is_changed_as_the_document_says(
    binary: ServerBinary, fresh_deployed: Deployed, tmp_path: Path
) -> None:
    """Delete the file, make-acl, ACL LOAD: the new password works, the old one does not, the others stay."""
    secrets = tmp_path / "secrets"
    shutil.copytree(fresh_deployed.secrets, secrets)
    deployed = boot(binary, secrets)
    with deployed.server:
        old = {user: deployed.password(user) for user in ("worker", "admin")}
        (secrets / "worker.password").unlink()
        subprocess.run(["sh", str(DEPLOY / "make-acl"), str(secrets)], check=True, capture_output=True)
        with deployed.client("admin") as admin:
            admin.acl_load()
        with deployed.client("worker") as worker:
            assert worker.ping()
        assert deployed.password("worker") != old["worker"]
        assert deployed.password("admin") == old["admin"]


@pytest.mark.topology
@pytest.mark.faults
@pytest.mark.slow
def test_sentinel_can_fail_over_with_the_rights_that_the_document_gives(binary: ServerBinary) -> None:
    """Sentinels logged in as lukhas-sentinel see the primary die and promote a replica; nothing is refused to them."""
    (line,) = [line for text in blocks() for line in text.splitlines() if "lukhas-sentinel" in line]
    words = shlex.split(EXPECTED.sub("", line))[1:]
    password = next(word[1:] for word in words if word.startswith(">"))
    with start_sentinels(binary) as group:
        for node in group.nodes:
            node.command(*words)
        for sentinel in group.sentinels:
            sentinel.command("SENTINEL", "SET", group.name, "auth-user", "lukhas-sentinel", "auth-pass", password)
        for node in group.nodes:
            drop_sentinels(node)
        wait_until(lambda: all(names(node).count("lukhas-sentinel") >= 3 for node in group.nodes), timeout=30)
        old = group.kill_primary()
        new = group.wait_failover(old)
        assert new is not old
        denied = [entry for node in group.nodes if node.alive for entry in node.admin.acl_log()]
        assert denied == []


def sentinels_of(node: RunningServer) -> list[dict[str, str]]:
    """The connections that sentinels have to a server."""
    return [client for client in node.admin.client_list() if client["name"].startswith("sentinel-")]


def names(node: RunningServer) -> list[str]:
    """As whom they are logged in."""
    return [client["user"] for client in sentinels_of(node)]


def drop_sentinels(node: RunningServer) -> None:
    """Make the sentinels log in again."""
    for client in sentinels_of(node):
        node.admin.client_kill_filter(_id=client["id"])
