"""The table from a server's message to a verdict, and the errors made of it."""

from __future__ import annotations

import pytest
from redis import exceptions

from lukhas_redis.errors import AccessDenied, LukhasRedisError, OutOfMemory, Unavailable
from lukhas_redis.transport.outcome import Verdict, final_error, judge, refused, server_message
from tests.unit.transport.scripts_for_tests import BROKEN, count_call, read, simple_call

MESSAGES = [
    ("LKCONFLICT version=5 script: abc, on @user_script:17.", Verdict.REFUSED),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", Verdict.WAIT),
    ("LOADING Redis is loading the dataset in memory", Verdict.WAIT),
    ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist", Verdict.WAIT),
    ("TRYAGAIN Multiple keys request during rehashing of slot", Verdict.WAIT),
    ("ERR max number of clients reached", Verdict.WAIT),
    ("ERR max number of clients + cluster connections reached", Verdict.WAIT),
    ("CLUSTERDOWN The cluster is down", Verdict.MOVE),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", Verdict.MOVE),
    ("NOREPLICAS Not enough good replicas to write.", Verdict.MOVE),
    ("READONLY You can't write against a read only replica. script: abc, on @user_script:3.", Verdict.MOVE),
    ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", Verdict.MOVE),
    ("MOVED 3999 127.0.0.1:6381", Verdict.MOVED),
    ("ASK 3999 127.0.0.1:6381", Verdict.ASK),
    ("NOSCRIPT No matching script. Please use EVAL.", Verdict.LOAD),
    ("NOPERM User worker has no permissions to run the 'evalsha' command", Verdict.DENIED),
    ("NOAUTH Authentication required.", Verdict.DENIED),
    ("WRONGPASS invalid username-password pair or user is disabled.", Verdict.DENIED),
    ("ERR The user executing the script can't run this command or subcommand script: abc", Verdict.DENIED),
    ("ERR ACL failure in script: User worker has no permissions to run the 'incrby' command", Verdict.DENIED),
    ("OOM command not allowed when used memory > 'maxmemory'.", Verdict.FULL),
    ("WRONGTYPE Operation against a key holding the wrong kind of value script: abc", Verdict.TYPE),
    ("ERR user_script:7: attempt to perform arithmetic on a table value", Verdict.FAULT),
    ("CROSSSLOT Keys in request don't hash to the same slot", Verdict.FAULT),
    ("ERR unknown command 'EVALSHA'", Verdict.FAULT),
    ("", Verdict.FAULT),
]


@pytest.mark.parametrize("message,verdict", MESSAGES, ids=[m.split()[0] if m else "empty" for m, _ in MESSAGES])
def test_each_message_has_its_verdict(message: str, verdict: Verdict) -> None:
    """A server's message is judged by its first word, and ERR by its text."""
    assert judge(message) is verdict


def test_facts_of_a_refusal_are_the_pairs_before_the_script() -> None:
    """Name=value words become facts; what the server appends about the script does not."""
    refusal = refused("LKFULL used_bytes=12 limit_bytes=10 owner=a=b script: abc=1, on @user_script:17.")
    assert refusal.word == "LKFULL"
    assert refusal.facts == {"used_bytes": "12", "limit_bytes": "10", "owner": "a=b"}
    assert (refusal.number("limit_bytes"), refusal.number("absent")) == (10, 0)


def test_redis_py_errors_give_back_the_whole_message() -> None:
    """redis-py takes the first word off; it comes back. An error that no server said gives nothing."""
    assert server_message(exceptions.AuthenticationError("invalid pair", status_code="WRONGPASS")).startswith(
        "WRONGPASS"
    )
    assert judge(server_message(exceptions.ConnectionError("max number of clients reached"))) is Verdict.WAIT
    assert server_message(exceptions.ConnectionError("Error 111 connecting")) == ""


@pytest.mark.parametrize(
    "verdict,kind",
    [(Verdict.DENIED, AccessDenied), (Verdict.FULL, OutOfMemory), (Verdict.FAULT, LukhasRedisError)],
)
def test_what_a_retry_cannot_mend_ends_the_call(verdict: Verdict, kind: type[LukhasRedisError]) -> None:
    """Missing rights, full memory and mistakes end a call; the message names the server."""
    error = final_error(verdict, "word and text", count_call("x"), "host:1")
    assert type(error) is kind
    assert "host:1" in str(error)
    assert "word and text" in str(error)


@pytest.mark.parametrize("verdict", [Verdict.WAIT, Verdict.MOVE, Verdict.MOVED, Verdict.ASK, Verdict.LOAD])
def test_what_passes_does_not_end_the_call(verdict: Verdict) -> None:
    """Everything that time or another server may mend is left to the engine."""
    assert final_error(verdict, "word", count_call("x"), "host:1") is None


def test_a_mistake_is_located_in_the_script() -> None:
    """The line a server names is translated to the file under lua/; a plain read has none."""
    message = "ERR user_script:7: attempt to perform arithmetic script: abc, on @user_script:7."
    error = final_error(Verdict.FAULT, message, simple_call(BROKEN, "x"), "host:1")
    assert error is not None
    assert error.fields["place"] == "broken.lua:7"
    plain = final_error(Verdict.FAULT, "ERR unknown", read("x", "GET", "k"), "host:1")
    assert plain is not None
    assert plain.fields["place"] is None
    assert not isinstance(plain, Unavailable)
