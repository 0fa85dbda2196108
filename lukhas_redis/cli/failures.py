"""Errors as a person at a terminal, or a script, needs them: what, where, and what to do next.

What belongs here: the lines and the JSON object on stderr. What does not: deciding which error a failure is, or its
exit code (`lukhas_redis.errors`).
Invariant: at most three lines, no traceback, no password; with `-o json` exactly one JSON object on one line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import click

from lukhas_redis import errors
from lukhas_redis.errors import InvalidArgument, LukhasRedisError


class NotConfirmed(InvalidArgument):
    """The person did not agree, or could not be asked; nothing was changed."""

    code = "NOT_CONFIRMED"


class NotSet(LukhasRedisError):
    """What was asked for is not set; nothing was changed."""

    code = "NOT_SET"
    exit_code: ClassVar[int] = 3


class NoSuchLetter(LukhasRedisError):
    """Some of the dead letters that were named are not there, or stay; the others were dealt with."""

    code = "LETTER_NOT_FOUND"
    exit_code: ClassVar[int] = 3


class BadApp(InvalidArgument):
    """What a worker was to run cannot be imported, or is no bus with subscriptions; nothing was taken."""

    code = "BAD_APP"


_HINTS: tuple[tuple[type[LukhasRedisError], str], ...] = (
    (errors.ContextNotFound, "`lukhas ls` lists what is there; --tenant looks at another tenant"),
    (errors.GroupNotFound, "`lukhas bus groups` lists those there are; a group is made by its first worker"),
    (errors.GroupPending, "`lukhas bus pending GROUP` lists what it has in hand; --force gives all of it up"),
    (NoSuchLetter, "`lukhas dlq ls` lists what is there; a letter whose group was retired can only be dropped"),
    (BadApp, "an app is MODULE:ATTRIBUTE; `python -c 'import MODULE'` shows the whole of an error in it"),
    (errors.Backlog, "`lukhas bus status` says which group lags; `lukhas bus retire` ends one that nobody works for"),
    (errors.StoreFull, "`lukhas stats` shows the limits; `lukhas flags set max_entries N` raises one"),
    (errors.TenantPaused, "`lukhas flags audit` says who paused it; `lukhas flags set mode live` resumes"),
    (errors.LeaseHeld, "`lukhas show ID` says who holds it; `lukhas release ID` ends the lease of a worker that died"),
    (errors.LeaseLost, "whoever had this token has lost the context: lease it and read it again"),
    (errors.ContextCorrupted, "`lukhas show ID --raw > FILE` keeps a copy of the stored bytes"),
    (errors.OutcomeUnknown, "it may have been done: look before you repeat it"),
    (errors.AccessDenied, "check user and password of the URL; deploy/users.acl has the rights each role needs"),
    (errors.ServerUnsuitable, "`lukhas doctor` checks the whole server"),
)

# What a failed connection says, the likely cause, the next step. The first that matches counts.
_CAUSES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("refused", "Error 111", "Error 61"), "nothing listens there: is the server started, is it the right port?"),
    (("No such file",), "there is no such socket: is the server started?"),
    (
        ("Name or service", "nodename", "name resolution", "Error -2", "Error -3", "Error -5"),
        "the host name is unknown: is it spelled right?",
    ),
    (("SSL", "certificate"), "encryption does not match: rediss:// is for servers with TLS only"),
    (("closed", "reset"), "the server closed the connection: does it want TLS (rediss://), or is it restarting?"),
    (("LOADING",), "the server is loading its data: try again when it is done"),
    (("max number of clients",), "the server has no connection left: raise maxclients, or find out who holds them"),
    (("timed out", "timeout", "no reply"), "the server does not answer: a firewall, a paused process, a long command?"),
    (("sentinel",), "no sentinel helped: are these sentinels, and is that the name of their service?"),
    (("slots",), "no node showed the cluster: are these nodes of a cluster?"),
)


def report(error: LukhasRedisError, tried: str | None, *, as_json: bool) -> None:
    """Say on stderr what went wrong; `tried` is the server that was asked for, and by whom."""
    hint = hint_for(error)
    tried = tried if unreachable(error) else None
    if as_json:
        click.echo(json.dumps({"error": _document(error, hint, tried)}, default=str), err=True)
        return
    click.echo(f"lukhas: {error.message}", err=True)
    for line in (tried and f"  tried: {tried}", hint and f"  next:  {hint}"):
        if line:
            click.echo(line, err=True)


def _document(error: LukhasRedisError, hint: str | None, tried: str | None) -> dict[str, Any]:
    """The error as one object."""
    return {
        "code": error.code,
        "type": type(error).__name__,
        "message": error.message,
        "exit_code": error.exit_code,
        "retryable": error.retryable,
        "hint": hint,
        "tried": tried,
        "fields": error.fields,
    }


def hint_for(error: LukhasRedisError) -> str | None:
    """The likely cause and the next step, or None when the message has it already."""
    if unreachable(error):
        return likely_cause(error.message)
    return next((hint for kind, hint in _HINTS if isinstance(error, kind)), None)


def unreachable(error: LukhasRedisError) -> bool:
    """Whether the error says that no server could be talked to."""
    return isinstance(error, errors.Unavailable) and not isinstance(error, errors.OutOfMemory)


def likely_cause(message: str) -> str:
    """What a message about a connection points to, and what to try."""
    found = next((cause for words, cause in _CAUSES if any(word in message for word in words)), "")
    return f"{found} " * bool(found) + "Without --url and LUKHAS_URL an embedded server is used (`lukhas up`)"


def report_usage(error: click.ClickException, words: Sequence[str]) -> None:
    """Say on stderr what is wrong with the command line itself."""
    message = _masked(error.format_message())
    if wants_json(words):
        usage = {"code": "USAGE", "type": type(error).__name__, "message": message, "exit_code": error.exit_code}
        click.echo(json.dumps({"error": {**usage, "retryable": False}}), err=True)
        return
    ctx = getattr(error, "ctx", None)
    help_for = ctx.command_path if ctx is not None else "lukhas"
    click.echo(f"lukhas: {message}\n  next:  {help_for} --help", err=True)


def wants_json(words: Sequence[str]) -> bool:
    """Whether a command line that could not be understood asks for JSON."""
    asked = [two for one, two in pairwise(words) if one in ("-o", "--output")]
    asked += [
        word.removeprefix("-o").removeprefix("--output=") for word in words if word.startswith(("-o", "--output="))
    ]
    given = [word for word in asked if word in ("json", "table")]
    return (given[-1] if given else os.environ.get("LUKHAS_OUTPUT")) == "json"


def _masked(message: str) -> str:
    if "@" not in message:
        return message
    from lukhas_redis.settings import mask_url

    return mask_url(message)
