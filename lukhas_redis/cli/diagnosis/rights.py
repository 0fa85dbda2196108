"""What the user may do: every command the store sends, asked about without running one.

What belongs here: the probe and its verdict. What does not: granting (deploy/users.acl).
Invariant: nothing is executed: the commands are queued in a MULTI, where the server checks rights, and the connection
is closed without EXEC.
"""

from __future__ import annotations

import re
from collections.abc import Set

from lukhas_redis.calls import Command
from lukhas_redis.cli.diagnosis.finding import Finding, unknown
from lukhas_redis.cli.servers import Line, line_to
from lukhas_redis.keys import KeySpace
from lukhas_redis.scripts import load, script_names
from lukhas_redis.transport.answers import text
from lukhas_redis.transport.dialing import Plan
from lukhas_redis.transport.outcome import Verdict, judge
from lukhas_redis.transport.steps import Node, ServerReply

_CALL = re.compile(r"redis\.p?call\('([A-Z]+)'")
# What the package sends itself, beside its scripts.
READING = (
    "EVALSHA", "GET", "HGET", "HGETALL", "HKEYS", "HMGET", "HSCAN", "INFO", "SCAN", "SCRIPT LOAD", "TIME", "XPENDING",
    "XRANGE", "XREVRANGE", "ZSCAN",
)  # fmt: skip
WRITING = ("EXISTS", "SET", "XADD", "XREADGROUP")
# Who may run none of these is meant to read; who lacks only some of the rights is a worker that will fail.
ALL_WRITERS = frozenset({"HSET", "SET", "XADD", "ZADD"})
_BODY_WRITERS = ("preserve", "fold", "commit")

# Words after a command that make it complete; K is a key of the tenant.
_COMPLETE = {
    "EVALSHA": "0123456789012345678901234567890123456789 1 K",
    "EXISTS": "K", "GET": "K", "GETRANGE": "K 0 1", "HDEL": "K f", "HGET": "K f", "HGETALL": "K", "HKEYS": "K",
    "HLEN": "K", "HMGET": "K f", "HSCAN": "K 0", "HSET": "K f v", "HSETNX": "K f v", "HVALS": "K", "INFO": "server",
    "LLEN": "K", "LRANGE": "K 0 1", "LTRIM": "K 0 1", "PEXPIRE": "K 1000", "PEXPIREAT": "K 1", "PEXPIRETIME": "K",
    "RENAME": "K K", "RPUSH": "K v", "SCAN": "0", "SCRIPT LOAD": "x", "SET": "K v", "STRLEN": "K",
    "TIME": "", "TYPE": "K", "UNLINK": "K",
    "XADD": "K * f v", "XLEN": "K", "XRANGE": "K - +", "XREVRANGE": "K + -", "ZADD": "K 1 m", "ZCARD": "K",
    "ZCOUNT": "K 0 1", "ZMSCORE": "K m", "ZPOPMIN": "K", "ZRANGE": "K 0 1", "ZRANGEBYSCORE": "K 0 1",
    "ZREM": "K m", "ZSCAN": "K 0", "ZSCORE": "K m", "HEXISTS": "K f", "HINCRBY": "K f 1", "ZRANGEBYLEX": "K - +",
    "XACK": "K g 1-1", "XCLAIM": "K g c 0 1-1", "XDEL": "K 1-1", "XGROUP": "CREATE K g 0 MKSTREAM", "XINFO": "STREAM K",
    "XPENDING": "K g", "XREADGROUP": "GROUP g c STREAMS K >", "XTRIM": "K MAXLEN 1",
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


def preserving() -> set[str]:
    """The commands that only writing a body needs, by preserve or by folding: operators do without."""
    scripts = list(map(load, script_names()))
    own = {name for script in scripts if script.name in _BODY_WRITERS for name in _CALL.findall(script.text)}
    others = (script for script in scripts if script.name not in _BODY_WRITERS)
    return own.difference(*(_CALL.findall(script.text) for script in others))


def probe(command: str, key: str) -> Command:
    """A complete command on `key`, never to be executed."""
    return (*command.split(), *[key if word == "K" else word for word in _COMPLETE[command].split()])


def rights(node: Node, plan: Plan, keys: KeySpace) -> Finding:
    """Whether the user may do what a worker, an operator or at least a reader does; on a connection of its own.

    Raises:
        Unavailable, AccessDenied: The server cannot be asked at all.
    """
    with line_to(node, plan) as line:
        who = _whoami(line)
        (opened,) = line.ask(("MULTI",))
        if type(opened) is ServerReply:
            return unknown("rights", opened, "grant +multi to have them checked", str(node))
        commands = [command for group in needed() for command in group]
        replies = line.ask(*[probe(command, f"{keys.root.base}probe") for command in commands])
    denied = {command for command, reply in zip(commands, replies, strict=True) if _denied(reply)}
    return _verdict(who, denied, str(node))


def _denied(reply: object) -> bool:
    return type(reply) is ServerReply and judge(str(reply)) is Verdict.DENIED


def _whoami(line: Line) -> str:
    (reply,) = line.ask(("ACL", "WHOAMI"))
    return "this user" if type(reply) is ServerReply else f"user {text(reply)}"


def _verdict(who: str, denied: Set[str], server: str) -> Finding:
    reading, _ = needed()
    names = ", ".join(sorted(denied)).lower()
    advice = "deploy/users.acl has the rights of each role"
    if not denied:
        return Finding("rights", "ok", f"{who} may read and write", server=server)
    if denied & set(reading):
        return Finding("rights", "fail", f"{who} may not run: {names}", advice, server)
    if denied >= ALL_WRITERS:
        return Finding("rights", "warn", f"{who} may read and not write", f"right for a reader; {advice}", server)
    if denied <= preserving():
        found = f"{who} may do everything but preserve large contexts (denied: {names})"
        return Finding("rights", "warn", found, f"right for an operator; {advice}", server)
    return Finding("rights", "fail", f"{who} may not run: {names}", advice, server)
