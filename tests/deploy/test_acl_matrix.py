"""Who may do what on a running server, asked of the server itself (ACL DRYRUN), command by command.

What belongs here: single commands and keys. What does not: whole operations (`test_acl_roles`).
"""

from __future__ import annotations

import pytest
import redis
from redis.exceptions import NoPermissionError

from tests.deploy.deployed import TENANT_USER, USERS, Deployed

KEY = "lukhas:{acme}:ctx:1"
TENANTS = {"worker", "ops", TENANT_USER}
READERS = TENANTS | {"reader"}
SHELL = {*USERS, TENANT_USER}

# The command; the users who may send it. Every other user of the file must be refused.
MATRIX: dict[str, set[str]] = {
    # what everybody's connection needs
    "PING": SHELL,
    "CLIENT SETNAME x": SHELL - {"replica"},
    "INFO": SHELL - {"replica"},
    # data
    f"GET {KEY}": READERS | {"admin"},
    f"HGETALL {KEY}": READERS | {"admin"},
    f"XRANGE {KEY} - +": READERS | {"admin"},
    f"EVALSHA {'0' * 40} 1 {KEY}": READERS | {"admin"},
    "SCRIPT LOAD return": READERS | {"admin"},
    "SCAN 0": {"worker", "reader", "ops", "admin"},
    f"SET {KEY} x": TENANTS | {"admin"},
    f"HSET {KEY} a b": TENANTS | {"admin"},
    f"XADD {KEY} * a b": TENANTS | {"admin"},
    f"UNLINK {KEY}": TENANTS | {"admin"},
    f"PEXPIREAT {KEY} 1": TENANTS | {"admin"},
    f"RENAME {KEY} {KEY}": {"worker", TENANT_USER, "admin"},
    "WAIT 1 1": TENANTS | {"admin"},
    "CONFIG GET append*": TENANTS | {"admin"},
    # the operators' verbs
    f"FCALL lukhas_stats 1 {KEY}": {"ops", "admin"},
    "FCALL lukhas_version 0": {"ops", "deploy", "admin"},
    "FUNCTION LIST": {"ops", "deploy", "admin"},
    "FUNCTION LOAD x": {"deploy", "admin"},
    "FUNCTION DELETE lukhas": {"deploy", "admin"},
    "FUNCTION FLUSH": {"admin"},
    "SET lukhas:help x": {"worker", "ops", "deploy", "admin"},
    # looking around
    "SLOWLOG GET": {"ops", "admin"},
    "LATENCY DOCTOR": {"ops", "admin"},
    "CLIENT LIST": {"ops", "admin"},
    "ACL LOG": {"ops", "admin"},
    f"MEMORY USAGE {KEY}": {"ops", "admin"},
    f"OBJECT ENCODING {KEY}": {"ops", "admin"},
    # replication
    "PSYNC ? -1": {"replica", "admin"},
    "REPLCONF capa eof": {"replica", "admin"},
    "REPLICAOF NO ONE": {"admin"},
    # the administrator's own
    "CONFIG SET maxmemory 1": {"admin"},
    "CONFIG REWRITE": {"admin"},
    "ACL SETUSER x": {"admin"},
    "ACL LOAD": {"admin"},
    "ACL LIST": {"admin"},
    "CLIENT KILL TYPE normal": {"admin"},
    "CLIENT PAUSE 1": {"admin"},
    "CLIENT TRACKING on BCAST": {"admin"},
    "SHUTDOWN": {"admin"},
    "SAVE": {"admin"},
    "BGSAVE": {"admin"},
    "BGREWRITEAOF": {"admin"},
    "FAILOVER": {"admin"},
    "SCRIPT FLUSH": {"admin"},
    "SCRIPT KILL": {"admin"},
    "SLOWLOG RESET": {"admin"},
    "MONITOR": {"admin"},
    "MODULE LIST": {"admin"},
    "CLUSTER FORGET x": {"admin"},
    "CLUSTER RESET": {"admin"},
    f"MIGRATE h 1 {KEY} 0 1": {"admin"},
    f"RESTORE {KEY} 0 x": {"admin"},
    f"DUMP {KEY}": {"admin"},
    f"SORT {KEY} BY x": {"admin"},
    f"EVAL return 1 {KEY}": {"admin"},
    "SUBSCRIBE lukhas": {"admin"},
    "PUBLISH lukhas x": {"admin"},
    # nobody, not even by a slip of the administrator
    "FLUSHALL": set(),
    "FLUSHDB": set(),
    "KEYS *": set(),
    "DEBUG SLEEP 1": set(),
    "SWAPDB 0 1": set(),
    # keys of others
    "GET other": {"admin"},
    "GET lukhas": {"admin"},
    "GET lukha:{acme}:ctx:1": {"admin"},
    "HGETALL session:1": {"admin"},
    "SET other x": {"admin"},
    f"EVALSHA {'0' * 40} 1 other": {"admin"},
    f"EVALSHA {'0' * 40} 2 {KEY} other": {"admin"},
    f"RENAME {KEY} other": {"admin"},
    "FCALL lukhas_stats 1 other": {"admin"},
    # other tenants
    "GET lukhas:{acme/3}:ctx:1": READERS | {"admin"},
    "SET lukhas:{acme/3}:ctx:1 x": TENANTS | {"admin"},
    "GET lukhas:{acme2}:ctx:1": READERS - {TENANT_USER} | {"admin"},
    "GET lukhas:{globex}:ctx:1": READERS - {TENANT_USER} | {"admin"},
    "SET lukhas:{globex}:ctx:1 x": TENANTS - {TENANT_USER} | {"admin"},
    "GET lukhas:{xacme/3}:ctx:1": READERS - {TENANT_USER} | {"admin"},
    "GET lukhas:help": READERS - {TENANT_USER} | {"deploy", "admin"},
}
# The last word of these is one argument.
WHOLE = {"SCRIPT LOAD return": ("SCRIPT", "LOAD", "return 1"), f"EVAL return 1 {KEY}": ("EVAL", "return 1", "1", KEY)}


@pytest.mark.parametrize("command", MATRIX)
def test_allowed_and_denied(command: str, deployed: Deployed) -> None:
    """Each user may send exactly what the matrix says."""
    words = WHOLE.get(command, tuple(command.split()))
    with deployed.client("admin") as client:
        allowed = {user for user in SHELL if _may(client, user, words)}
    assert allowed == MATRIX[command]


def _may(client: redis.Redis, user: str, words: tuple[str, ...]) -> bool:
    answer = str(client.acl_dryrun(f"lukhas-{user}", *words))
    assert answer == "OK" or "no permissions" in answer, answer
    return answer == "OK"


@pytest.mark.parametrize(
    "command",
    [
        "FLUSHALL",
        "CONFIG SET maxmemory 1",
        "KEYS *",
        "SHUTDOWN NOSAVE",
        "GET other",
        "ACL SETUSER x on nopass +@all ~*",
    ],
)
@pytest.mark.parametrize("user", ["worker", "reader", "ops", "deploy", "replica", TENANT_USER])
def test_refused_on_the_wire(user: str, command: str, deployed: Deployed) -> None:
    """What must never happen is refused when it is really sent, too."""
    with deployed.client(user) as client, pytest.raises(NoPermissionError):
        client.execute_command(*command.split())


def test_debug_is_off_for_the_administrator_too(deployed: Deployed) -> None:
    """Whoever gave himself the right to DEBUG is still refused by the server's setting."""
    with deployed.client("admin") as client, pytest.raises(redis.ResponseError, match="DEBUG command not allowed"):
        client.execute_command("DEBUG", "SLEEP", "0")
