"""Talking to single servers, behind the store's back: every primary of a topology, as it is, suitable or not.

What belongs here: finding the primaries, one plain connection to each. What does not: what is asked (`functions`,
`diagnosis`).
Invariant: a server is asked exactly what the caller says, once; nothing is checked first and nothing is retried.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from lukhas_redis.calls import Command
from lukhas_redis.errors import LukhasRedisError, Unavailable
from lukhas_redis.transport.answers import answers
from lukhas_redis.transport.dialing import Plan
from lukhas_redis.transport.outcome import Verdict, access_denied, judge
from lukhas_redis.transport.routes import Routes
from lukhas_redis.transport.steps import Exchange, Node, NotSent, Outcome, ServerReply, SetbackError, Step
from lukhas_redis.transport.sync_links import Link, NodeLinks
from lukhas_redis.transport.wire import pack


class Line:
    """One connection to one server."""

    def __init__(self, node: Node, link: Link, seconds: float) -> None:
        self.node = node
        self._link = link
        self._seconds = seconds

    def ask(self, *commands: Command) -> list[Any]:
        """One reply for each command; an error reply is a `ServerReply` in its place.

        Raises:
            Unavailable: The connection broke or the server was silent.
        """
        outcome = self._link.exchange(pack(commands), len(commands), self._seconds)
        if isinstance(outcome, list):
            return outcome
        raise Unavailable(f"{self.node}: {outcome.reason}", server=str(self.node))

    def do(self, *words: str | int | bytes) -> Any:
        """One command's reply.

        Raises:
            AccessDenied: The user lacks the right.
            LukhasRedisError: The server said another error.
            Unavailable: The connection broke or the server was silent.
        """
        (reply,) = self.ask(words)
        if type(reply) is not ServerReply:
            return reply
        if judge(str(reply)) is Verdict.DENIED:
            raise access_denied(str(reply), str(self.node))
        raise LukhasRedisError(f"{self.node}: {reply}", server=str(self.node))


@contextmanager
def line_to(node: Node, plan: Plan) -> Generator[Line]:
    """A connection to a server, closed after the block.

    Raises:
        Unavailable: It cannot be reached.
        AccessDenied: It refused the credentials.
    """
    link = NodeLinks(node, plan).dial(monotonic() + plan.connect_seconds)
    if isinstance(link, NotSent):
        _raise(link, node)
    else:
        try:
            yield Line(node, link, plan.reply_seconds)
        finally:
            link.close()


def topology(plan: Plan) -> Routes:
    """Where the servers that take writes are: the one of the URL, the one Sentinel names, or all owners of slots.

    Raises:
        Unavailable: Nobody tells.
        AccessDenied: Credentials or rights do not suffice to ask.
    """
    routes = plan.routes(1)
    steps = routes.refresh(monotonic, monotonic() + plan.connect_seconds + plan.reply_seconds)
    try:
        step = next(steps)
        while True:
            step = steps.send(_carried_out(step, plan))
    except StopIteration:
        return routes
    except SetbackError as setback:
        raise Unavailable(str(setback), reason=str(setback)) from None


def _carried_out(step: Step, plan: Plan) -> Outcome:
    if not isinstance(step, Exchange):
        raise TypeError(f"topologies only ask; {step!r} is no question")
    link = NodeLinks(step.node, plan).dial(step.deadline)
    if isinstance(link, NotSent):
        return link
    try:
        return link.exchange(pack(step.commands), len(step.commands), step.deadline - monotonic())
    finally:
        link.close()


def _raise(failed: NotSent, node: Node) -> None:
    try:
        answers(failed, node, "valid credentials")
    except SetbackError as setback:
        raise Unavailable(str(setback), server=str(node)) from None
