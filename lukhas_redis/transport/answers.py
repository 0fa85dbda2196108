"""Answers to the transport's own questions, where anything but an answer means that the call cannot be made yet.

What belongs here: the one reading of outcomes that topology and server checks share. What does not: the questions,
or outcomes of calls (`engine`).
Invariant: a question changes nothing on a server, so failing to ask leaves no doubt.
"""

from __future__ import annotations

from typing import Any

from lukhas_redis.transport.outcome import Verdict, access_denied, judge
from lukhas_redis.transport.steps import Lost, Node, NotSent, Outcome, ServerReply, SetbackError


def answers(outcome: Outcome, node: Node, right: str) -> list[Any]:
    """The replies, when all of them are good; `right` is what asking takes.

    Raises:
        AccessDenied: The right, or the credentials, are missing.
        LukhasRedisError: The server must not be used.
        SetbackError: Anything else; asking again later may help.
    """
    if isinstance(outcome, NotSent):
        if outcome.error is not None:
            raise outcome.error
        _not_denied(outcome.reply, node, right)
        raise SetbackError(outcome.reason)
    if isinstance(outcome, Lost):
        raise SetbackError(f"{node}: {outcome.reason}")
    for reply in outcome:
        if type(reply) is ServerReply:
            _not_denied(str(reply), node, right)
            raise SetbackError(f"{node}: {reply}")
    return outcome


def _not_denied(message: str, node: Node, right: str) -> None:
    if judge(message) is Verdict.DENIED:
        raise access_denied(f"{message} (this needs {right})", str(node))


def texts(pairs: Any) -> dict[str, str]:
    """A reply of names and values, flat as RESP2 or a map as RESP3 has it, as text."""
    flat = [part for pair in pairs.items() for part in pair] if isinstance(pairs, dict) else list(pairs)
    words = [text(word) for word in flat]
    return dict(zip(words[::2], words[1::2], strict=False))


def text(value: Any) -> str:
    """A reply as text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
