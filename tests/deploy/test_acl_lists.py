"""users.acl against what the package really sends: no right is missing, none is left over.

What belongs here: the lists. What does not: whether they suffice at run time (`test_acl_roles`).
"""

from __future__ import annotations

import pytest
import redis

from lukhas_redis.scripts import load, script_names
from tests.deploy.commands import REDIS_PY, of_python, of_script, of_scripts
from tests.deploy.deployed import DEPLOY, TENANT_USER, USERS, Deployed

# Probes ask PING; clients that speak RESP3 open with HELLO.
PROBES = {"hello", "ping"}
# Sent only to confirm a write, or to free the memory of what a sweep took out.
FOR_WRITERS = {"config|get", "exists", "wait"}


def rights(text: str, user: str) -> set[str]:
    """The rights that an ACL file grants a user, without the plus."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"user lukhas-{user} ")]
    return {word[1:] for word in line.split() if word.startswith("+")}


def shipped(user: str) -> set[str]:
    """The rights of a user in the shipped file."""
    return rights((DEPLOY / "users.acl").read_text(encoding="utf-8"), user)


@pytest.fixture
def sent(deployed: Deployed) -> set[str]:
    """What Python sends by itself, on the server's own list of commands."""
    with deployed.client("admin") as client:
        return of_python(client, "ops", "ops/bus", "transport")


@pytest.fixture
def writing(deployed: Deployed) -> set[str]:
    """What the server calls a write."""
    with deployed.client("admin") as client:
        return {str(name) for name in client.acl_cat("write")}


def test_every_call_in_every_script_names_its_command() -> None:
    """No script computes the name of a command: otherwise nobody could say which rights it needs."""
    assert all(of_script(name) for name in script_names())


def test_worker_has_what_scripts_and_transport_use(sent: set[str]) -> None:
    """The worker's rights are the commands of all scripts and of the transport, nothing else."""
    assert shipped("worker") == of_scripts(*script_names()) | sent | REDIS_PY | PROBES


def test_reader_has_what_reading_uses(sent: set[str], writing: set[str]) -> None:
    """The reader's rights are the commands of the reading scripts, of a dry recount and of plain reads."""
    reading = [name for name in script_names() if load(name).reads_only]
    used = of_scripts("recount", *reading) | sent | REDIS_PY | PROBES
    assert shipped("reader") == used - writing - FOR_WRITERS
    assert {"hset", "unlink"} <= writing


def test_ops_has_what_its_verbs_use_and_looks_besides(sent: set[str], writing: set[str]) -> None:
    """Ops has the commands of all scripts but those that store bodies, FCALL, and rights to look, never to write."""
    verbs = of_scripts(*(name for name in script_names() if name not in ("preserve", "fold", "commit")))
    needed = verbs | sent | REDIS_PY | PROBES | {"fcall", "fcall_ro"}
    granted = shipped("ops")
    assert granted >= needed
    assert (granted - needed) & writing == set()
    assert {"rename", "getrange"} & granted == set()


def test_shipped_file_has_no_comment_and_lets_nobody_in() -> None:
    """A comment would keep the server from starting; without make-acl no password fits, so nobody can log in."""
    lines = (DEPLOY / "users.acl").read_text(encoding="utf-8").splitlines()
    assert [line.split()[1] for line in lines] == ["default", *(f"lukhas-{user}" for user in USERS)]
    assert all(line.startswith("user ") and "#" + "0" * 64 in line for line in lines[1:])
    assert "nopass" not in " ".join(lines)


def test_default_user_is_off_and_may_do_everything() -> None:
    """The default user cannot log in but keeps all rights: as it, a server runs its append-only file at start.

    With fewer rights Redis 7.0 drops every transaction of the file, so nearly every script's writes.
    """
    first = (DEPLOY / "users.acl").read_text(encoding="utf-8").splitlines()[0]
    assert first == "user default off resetpass ~* &* +@all"


def test_make_acl_fills_in_every_password(deployed: Deployed) -> None:
    """What make-acl writes has a hash of its own for every user, and the shipped rights (less one on Redis 7.0)."""
    made = (deployed.secrets / "users.acl").read_text(encoding="utf-8")
    hashes = [word for word in made.split() if word.startswith("#")]
    assert len(set(hashes)) == len(USERS) + 1
    assert "#" + "0" * 64 not in hashes
    unknown = {"client|setinfo"} if deployed.server.id.startswith("redis-7.0.") else set()
    assert all(rights(made, user) == shipped(user) - unknown for user in USERS)
    assert rights(made, TENANT_USER) == shipped("worker") - unknown - {"scan"}


def test_nobody_gets_in_without_a_password(deployed: Deployed) -> None:
    """Without a name nothing is answered, a wrong password is refused, and each user's own password works."""
    with (
        redis.Redis(host=deployed.server.host, port=deployed.server.port) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()
    wrong = f"redis://lukhas-worker:{'0' * 64}@{deployed.server.host}:{deployed.server.port}"
    with redis.Redis.from_url(wrong) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    for user in (*USERS, TENANT_USER):
        with deployed.client(user) as client:
            assert client.ping()
