"""What the user may do: every command the store sends, asked about without running one.

What belongs here: the probe and its verdict. What does not: granting (deploy/users.acl).
Invariant: nothing is executed: the commands are queued in a MULTI, where the server checks rights, and then discarded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lukhas_redis.calls import Command
from lukhas_redis.cli.diagnosis.finding import Finding, unknown
from lukhas_redis.cli.servers import Line
from lukhas_redis.keys import KeySpace
from lukhas_redis.scripts import load, script_names
from lukhas_redis.transport.answers import text
from lukhas_redis.transport.outcome import Verdict, judge
from lukhas_redis.transport.steps import ServerReply

_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'")
# What the package sends itself, beside its scripts.
READING = (
    "EVALSHA", "GET", "HGET", "HGETALL", "HMGET", "HSCAN", "INFO", "SCAN", "SCRIPT LOAD", "TIME", "XRANGE",
    "XREVRANGE", "ZSCAN",
)  # fmt: skip
WRITING = ("EXISTS", "SET")

# Words after a command that make it complete; K is a key of the tenant.
_COMPLETE = {
    "EVALSHA": "0123456789012345678901234567890123456789 1 K",
    "EXISTS": "K", "GET": "K", "GETRANGE": "K 0 1", "HDEL": "K f", "HGET": "K f", "HGETALL": "K", "HKEYS": "K",
    "HLEN": "K", "HMGET": "K f", "HSCAN": "K 0", "HSET": "K f v", "HSETNX": "K f v", "HVALS": "K", "INFO": "server",
    "LLEN": "K", "LRANGE": "K 0 1", "LTRIM": "K 0 1", "PEXPIRE": "K 1000", "PEXPIREAT": "K 1", "PEXPIRETIME": "K",
    "RENAME": "K K", "RPUSH": "K v", "SCAN": "0", "SCRIPT LOAD": "x", "SET": "K v", "STRLEN": "K",
    "TIME": "", "TYPE": "K", "UNLINK": "K",
    "XADD": "K * f v", "XLEN": "K", "XRANGE": "K - +", "XREVRANGE": "K + -", "ZADD": "K 1 m", "ZCARD": "K",
    "ZCOUNT": "K 0 1", "ZMSCORE": "K m", "ZPOPMIN": "K", "ZRANGE": "K 0 1", "ZRANGEBYSCORE": "K 0 1", "ZRANK": "K m",
    "ZREM": "K m", "ZSCAN": "K 0", "ZSCORE": "K m",
}  # fmt: skip


def needed() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The commands that reading takes, and those that writing takes beside them."""
    reading, writing = set(READING), set(WRITING)
    for script in map(load, script_names()):
        found = set(_CALL.findall(script.text))
        if script.reads_only:
            reading |= found
        else:
            writing |= found
    return tuple(sorted(reading)), tuple(sorted(writing - reading))


def probe(command: str, key: str) -> Command:
    """A complete command on `key`, never to be executed."""
    return (*command.split(), *[key if word == "K" else word for word in _COMPLETE[command].split()])


def rights(line: Line, keys: KeySpace) -> Finding:
    """Whether the user may do what a worker, or at least a reader, does."""
    server, who = str(line.node), _whoami(line)
    opened = line.ask(("MULTI",))[0]
    if type(opened) is ServerReply:
        return unknown("rights", opened, "grant +multi +discard to have them checked", server)
    reading, writing = needed()
    key = f"{keys.root.base}probe"
    replies = line.ask(*[probe(command, key) for command in (*reading, *writing)], ("DISCARD",))
    denied = [c for c, reply in zip((*reading, *writing), replies, strict=False) if _denied(reply)]
    return _verdict(who, denied, writing, server)


def _denied(reply: object) -> bool:
    return type(reply) is ServerReply and judge(str(reply)) is Verdict.DENIED


def _whoami(line: Line) -> str:
    (reply,) = line.ask(("ACL", "WHOAMI"))
    return "this user" if type(reply) is ServerReply else f"user {text(reply)}"


def _verdict(who: str, denied: Sequence[str], writing: Sequence[str], server: str) -> Finding:
    advice = "deploy/users.acl has the rights of each role"
    if not denied:
        return Finding("rights", "ok", f"{who} may read and write", server=server)
    if set(denied) == set(writing):
        return Finding("rights", "warn", f"{who} may read and not write", f"right for a reader; {advice}", server)
    return Finding("rights", "fail", f"{who} may not run: {', '.join(denied).lower()}", advice, server)
