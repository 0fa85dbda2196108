"""From a request to the commands that carry it, and from their replies to its answer.

What belongs here: which commands travel together on one connection, and which reply counts. What does not:
where they go, or what an error reply means (`outcome`).
Invariant: a unit is sent whole, in order, on one connection, and sent again only as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lukhas_redis.calls import Call, Command, Read, Sent, Snapshot
from lukhas_redis.errors import DurabilityUnknown
from lukhas_redis.transport.durability import SHOW_DURABILITY, shortfall
from lukhas_redis.transport.steps import ServerReply
from lukhas_redis.transport.world import Policy

STAGE_SECONDS = 60
_ASKING: Command = ("ASKING",)


class Unit:
    """The commands of one request; `main` is the place of the reply that answers it."""

    __slots__ = ("commands", "durability", "main", "own_connection", "request", "tag")

    def __init__(
        self,
        request: Sent,
        tag: str,
        commands: Sequence[Command],
        main: int,
        own_connection: bool,
        durability: str = "memory",
    ) -> None:
        self.request = request
        self.tag = tag
        self.commands = commands
        self.main = main
        self.own_connection = own_connection
        # What was asked to be confirmed about a write.
        self.durability = durability

    @property
    def reads_only(self) -> bool:
        """Whether the request cannot change anything, so that a lost reply leaves no doubt."""
        return not isinstance(self.request, Call) or self.request.script.reads_only

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice has the effect of sending it once."""
        return not isinstance(self.request, Call) or self.request.repeatable

    @property
    def request_id(self) -> str | None:
        """The id that makes a repeat safe."""
        return self.request.request_id if isinstance(self.request, Call) else None

    def answer(self, replies: Sequence[Any]) -> Any:
        """The reply that answers the request; an instance of `ServerReply` when that is an error."""
        reply = replies[self.main]
        if type(reply) is ServerReply and self.main:
            # An earlier command of the unit that failed (SET of the stage, MULTI) is the cause.
            return next((earlier for earlier in replies[: self.main] if type(earlier) is ServerReply), reply)
        if type(self.request) is Snapshot and type(reply) is list:
            return next((inner for inner in reply if type(inner) is ServerReply), reply)
        return reply

    def asking(self) -> list[Command]:
        """The commands for the node a slot is moving to: ASKING counts for one command, or one transaction."""
        if isinstance(self.request, Snapshot):
            return [_ASKING, *self.commands]
        return [part for command in self.commands for part in (_ASKING, command)]

    def without_asking(self, replies: Sequence[Any]) -> Sequence[Any]:
        """The replies to `asking()` without those to ASKING."""
        return replies[1:] if isinstance(self.request, Snapshot) else replies[1::2]

    def confirm(self, replies: Sequence[Any], policy: Policy) -> None:
        """Nothing when the write is as durable as asked.

        Raises:
            DurabilityUnknown: It was applied, but that was not confirmed. Repeating with the same request id is safe.
        """
        level, reply = self.durability, replies[self.main]
        if level == "memory" or (type(reply) is list and type(reply[0]) is bytes and reply[0] != b"OK"):
            # Any other word asks for one more step before the write is made.
            return
        missing = shortfall(replies[self.main + 1], policy)
        if missing is None and level == "replicated":
            missing = _too_few(replies[self.main + 2], policy)
        if missing is not None:
            raise DurabilityUnknown(
                f"the write was applied, but durability {level!r} was not confirmed: {missing}",
                request_id=self.request_id,
                durability=level,
            )


def _too_few(confirmed: Any, policy: Policy) -> str | None:
    if isinstance(confirmed, int) and confirmed >= policy.replicas_to_wait:
        return None
    return f"{confirmed} of {policy.replicas_to_wait} replicas confirmed within {policy.wait_timeout_ms} ms"


def unit_of(request: Sent, policy: Policy) -> Unit:
    """The unit that carries a request."""
    if type(request) is Call:
        if request.stage is None and request.durability == "memory":
            return Unit(request, request.tag, (request.command,), 0, False)
        return _large_or_durable(request, policy)
    if type(request) is Snapshot:
        call = request.call
        reads = [read.words for read in request.reads]
        commands: list[Command] = [("MULTI",), call.command, *reads, ("EXEC",)]
        return Unit(request, call.tag, commands, len(commands) - 1, own_connection=True)
    assert type(request) is Read  # noqa: S101 - the last kind of request; narrows the type
    # Plain reads fetch what is too large to come with a script: small calls must not wait behind the reply.
    return Unit(request, request.tag, [request.words], 0, own_connection=True)


def _large_or_durable(call: Call, policy: Policy) -> Unit:
    commands: list[Command] = []
    if call.stage:
        commands.append(("SET", call.stage.key, call.stage.payload, "EX", STAGE_SECONDS))
    main = len(commands)
    commands.append(call.command)
    if call.durability != "memory":
        commands.append(SHOW_DURABILITY)
    if call.durability == "replicated":
        commands.append(("WAIT", policy.replicas_to_wait, policy.wait_timeout_ms))
    if call.stage:
        commands.append(("UNLINK", call.stage.key))
    return Unit(call, call.tag, commands, main, own_connection=True, durability=call.durability)


def load_command(request: Sent) -> Command:
    """SCRIPT LOAD of the script a request runs."""
    script = request.script if isinstance(request, Call) else None
    if isinstance(request, Snapshot):
        script = request.call.script
    assert script is not None  # noqa: S101 - only a script is answered with NOSCRIPT
    return ("SCRIPT", "LOAD", script.text)


def type_commands(call: Call) -> list[tuple[str, str, Command]]:
    """For each key of a call: the key, the type its script's header declares, and the command that asks for it."""
    count = int(call.words[0])
    rows = list(call.script.keys)
    while rows and rows[-1].many and len(rows) < count:
        rows.append(rows[-1])
    keys = [str(word) for word in call.words[1 : 1 + count]]
    return [(key, row.type, ("TYPE", key)) for key, row in zip(keys, rows, strict=False)]
