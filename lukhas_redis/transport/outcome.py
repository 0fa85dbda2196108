"""What every failure means for the caller: refused, not applied, denied, or unknown.

What belongs here: one table from the first word of a server's message to a verdict, and the errors made of it.
What does not: what is done about a verdict (`engine`).
Invariant: every verdict but DENIED and FAULT means that nothing was applied; those two may come from the middle of a
script (a right that one of its commands lacks, a mistake of ours), which is why neither is retried.
"""

from __future__ import annotations

import enum

from redis.exceptions import RedisError

from lukhas_redis.calls import Call, Refused, Sent, Snapshot
from lukhas_redis.errors import AccessDenied, LukhasRedisError, OutOfMemory
from lukhas_redis.scripts import Script


class Verdict(enum.Enum):
    """What an error reply means."""

    REFUSED = "a script said no"
    WAIT = "not applied; the same server may take it later"
    MOVE = "not applied; another server may have to be found"
    MOVED = "not applied; the slot lives elsewhere now"
    ASK = "not applied; this key is already on the slot's next node"
    LOAD = "not applied; the server does not know the script"
    DENIED = "the credentials or their rights do not suffice"
    FULL = "not applied; the server is at maxmemory"
    TYPE = "not applied; a key holds another type"
    FAULT = "a mistake in a script, or a command this server does not know"


_BY_WORD = {
    "BUSY": Verdict.WAIT,
    "LOADING": Verdict.WAIT,
    "MISCONF": Verdict.WAIT,
    "TRYAGAIN": Verdict.WAIT,
    "CLUSTERDOWN": Verdict.MOVE,
    "MASTERDOWN": Verdict.MOVE,
    "NOREPLICAS": Verdict.MOVE,
    "READONLY": Verdict.MOVE,
    "UNBLOCKED": Verdict.MOVE,
    "MOVED": Verdict.MOVED,
    "ASK": Verdict.ASK,
    "NOSCRIPT": Verdict.LOAD,
    "NOPERM": Verdict.DENIED,
    "NOAUTH": Verdict.DENIED,
    "WRONGPASS": Verdict.DENIED,
    "OOM": Verdict.FULL,
    "WRONGTYPE": Verdict.TYPE,
}
# Messages whose first word is the meaningless ERR. The second row is how a password for a user without one,
# the third how a script that lacks a right (Redis 7.0 and Valkey), is answered.
_BY_TEXT = (
    ("max number of clients", Verdict.WAIT),
    ("AUTH <password> called without any password", Verdict.DENIED),
    ("ACL failure in script", Verdict.DENIED),
    ("can't run this command", Verdict.DENIED),
    ("can't access at least one of the keys", Verdict.DENIED),
    ("invalid password", Verdict.DENIED),
    ("Cluster is down", Verdict.MOVE),
)


def judge(message: str) -> Verdict:
    """The verdict on an error reply, by its first word, or for ERR by what follows."""
    word = message.split(" ", 1)[0]
    known = _BY_WORD.get(word)
    if known is not None:
        return known
    if word.startswith("LK"):
        return Verdict.REFUSED
    return next((verdict for text, verdict in _BY_TEXT if text in message), Verdict.FAULT)


def server_message(error: RedisError) -> str:
    """The whole message of an error reply that redis-py has taken apart, or "" when no server said it."""
    if error.status_code is not None:
        return f"{error.status_code} {error}"
    text = str(error)
    return f"ERR {text}" if text.startswith("max number of clients") else ""


def refused(message: str) -> Refused:
    """The refusal in a message such as `LKCONFLICT version=5 script: ..., on @user_script:17`."""
    word, _, rest = message.split(" script:", 1)[0].partition(" ")
    pairs = [pair.partition("=") for pair in rest.split() if "=" in pair]
    return Refused(word, {name: value for name, _, value in pairs})


def script_of(request: Sent) -> Script | None:
    """The script a request runs, or None for a plain read."""
    if isinstance(request, Call):
        return request.script
    return request.call.script if isinstance(request, Snapshot) else None


def final_error(verdict: Verdict, message: str, request: Sent, where: str) -> LukhasRedisError | None:
    """The error that ends a call at once, or None when a retry may help."""
    if verdict is Verdict.DENIED:
        return access_denied(f"{message}{_at(_place(message, request))}", where)
    if verdict is Verdict.FULL:
        return OutOfMemory(
            f"{where} is at maxmemory and refuses writes; nothing was changed. Drop or sweep contexts, or raise "
            f"maxmemory. It said: {message}",
            server=where,
        )
    if verdict is Verdict.FAULT:
        return _fault(message, request, where)
    return None


def access_denied(message: str, where: str) -> AccessDenied:
    """The error for a server that refused credentials or a right."""
    return AccessDenied(f"{where} refused access: {message}", server=where)


def _fault(message: str, request: Sent, where: str) -> LukhasRedisError:
    script, place = script_of(request), _place(message, request)
    what = f"script {script.name}" if script else "a command"
    return LukhasRedisError(f"{what} failed{_at(place)} on {where}: {message}", server=where, place=place)


def _place(message: str, request: Sent) -> str | None:
    script = script_of(request)
    return script.locate(message) if script else None


def _at(place: str | None) -> str:
    return f" at lua/{place}" if place else ""
