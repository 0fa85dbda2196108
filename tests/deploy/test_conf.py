"""The configuration files: they boot, they say what they mean to the server, and the two do not drift apart.

What belongs here: settings. What does not: users (`test_acl_*`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from lukhas_redis import ContextStore
from lukhas_redis.testing import ServerBinary
from tests.deploy.deployed import DEPLOY, Deployed, boot, conf_of

# What the server was told on the command line, and what CONFIG GET shows in another form.
PLACES = {"port", "bind", "dir", "aclfile"}
UNITS = {"kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}


def directives(path: Path) -> dict[str, list[str]]:
    """Each directive of a configuration file with its values."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.partition(" ")
            found.setdefault(name, []).append("" if value == '""' else value)
    return found


def meant(value: str) -> str:
    """A value as CONFIG GET writes it: sizes in bytes."""
    number, unit = value[:-2], value[-2:].lower()
    return str(int(number) * UNITS[unit]) if unit in UNITS and number.isdigit() else value


def test_server_starts_with_the_file_and_means_what_it_says(deployed: Deployed) -> None:
    """Every directive of the shipped file is read back from the running server with the value of the file."""
    with deployed.client("admin") as client:
        shown = client.config_get("*")
    written = directives(conf_of(deployed.server.binary))
    buffers = written.pop("client-output-buffer-limit")
    for limit in buffers:
        kind, *values = limit.split()
        plain = [meant(value) for value in values]
        # CONFIG GET calls replicas slaves.
        assert " ".join([kind.replace("replica", "slave"), *plain]) in str(shown["client-output-buffer-limit"])
    wrong = {
        name: (values, shown.get(name))
        for name, values in written.items()
        if name not in PLACES and [meant(value) for value in values] != [shown.get(name)]
    }
    assert wrong == {}


def test_the_two_files_say_the_same() -> None:
    """valkey.conf is redis.conf with a few directives of Valkey's own, nothing else."""
    redis, valkey = directives(DEPLOY / "redis.conf"), directives(DEPLOY / "valkey.conf")
    assert redis.keys() <= valkey.keys()
    assert {name for name in redis if redis[name] != valkey[name]} == set()
    assert all(name.startswith("commandlog-") for name in valkey.keys() - redis.keys())


@pytest.mark.parametrize("name", ["redis.conf", "valkey.conf"])
def test_nothing_that_loses_contexts_or_does_not_boot_everywhere(name: str) -> None:
    """No file evicts, defragments actively (fatal on some builds), renames commands or holds a password."""
    written = directives(DEPLOY / name)
    assert written["maxmemory-policy"] == ["noeviction"]
    forbidden = {"activedefrag", "rename-command", "requirepass", "masterauth", "user", "loadmodule", "include"}
    assert written.keys() & forbidden == set()


def test_server_gives_durability_local_as_it_is_shipped(deployed: Deployed) -> None:
    """With the shipped file a worker may ask for durability `local` and gets it."""
    with ContextStore.connect(settings=deployed.settings("worker", durability="local")) as store:
        store.ready()
        kept = store.preserve("s", {"a": 1})
        assert store.restore(kept.context_id).data == {"a": 1}


def test_everything_acknowledged_is_there_after_a_power_cut(fresh_deployed: Deployed) -> None:
    """After kill -9 the server starts from its append-only file with the same files and has the context."""
    settings = fresh_deployed.settings("worker", durability="local")
    with ContextStore.connect(settings=settings) as store:
        kept = store.preserve("s", {"a": 1})
    fresh_deployed.server.kill9()
    fresh_deployed.server.start()
    with ContextStore.connect(settings=settings) as store:
        assert store.restore(kept.context_id).data == {"a": 1}


def test_replica_follows_with_the_file_that_make_acl_writes(binary: ServerBinary, deployed: Deployed) -> None:
    """A second server with replica.conf included logs in as lukhas-replica and reaches the primary's offset."""
    from lukhas_redis.testing import wait_until

    primary = f"{deployed.server.host} {deployed.server.port}"
    include = str(deployed.secrets / "replica.conf")
    replica = boot(binary, deployed.secrets, "--include", include, "--replicaof", *primary.split())
    with replica.server:
        wait_until(lambda: replica.server.info("replication")["master_link_status"] == "up", timeout=30)
        with ContextStore.connect(deployed.url("worker")) as store:
            kept = store.preserve("s", {"a": 1})
        key = f"lukhas:{{default}}:ctx:{kept.context_id}"
        with replica.client("reader") as reader:
            wait_until(lambda: reader.hget(key, "version") == "1", timeout=30)
