"""One request from its first attempt to its answer or its error: what is retried, where, and until when.

What belongs here: the order of steps, retries, redirections, and what may be said about the outcome. What does
not: I/O, what a message means (`outcome`), which commands make a request (`units`).
Invariant: `Unavailable` ends a call only when none of its attempts can have been applied.
"""

from __future__ import annotations

from typing import Any, NoReturn

from lukhas_redis.calls import Call, Sent, Snapshot
from lukhas_redis.errors import LukhasRedisError, OutcomeUnknown, Unavailable, WrongKeyType
from lukhas_redis.transport.inspection import inspect, inspect_durability
from lukhas_redis.transport.outcome import Verdict, final_error, judge, refused
from lukhas_redis.transport.steps import (
    Exchange,
    Lost,
    Node,
    NotSent,
    Once,
    Outcome,
    Pause,
    ServerReply,
    SetbackError,
    Steps,
)
from lukhas_redis.transport.units import Unit, load_command, type_commands, unit_of
from lukhas_redis.transport.world import World

# The last part of a call's time starts no further attempt: one that is cut off by the deadline would turn what was
# surely not applied into a doubt.
_REPLY_SHARE = 0.1
_LONGEST_REPLY_SECONDS = 0.5
# Redirections and script loads are followed at once, but not for ever: two servers may each name the other.
_FREE_TURNS = 4
NOT_PLAIN = object()


def attempt(request: Sent, world: World) -> Steps[Any]:
    """Carry out one request; returns the reply.

    Raises:
        Refused: The script said no; nothing was changed.
        Unavailable: No attempt was applied, and the deadline passed or a retry cannot help.
        OutcomeUnknown: An attempt may have been applied; repeating with the same request id is safe.
        LukhasRedisError: See `outcome.final_error`.
    """
    unit = unit_of(request, world.policy)
    exchange = common(unit, world)
    outcome = (yield exchange) if exchange is not None else None
    answer = plain_answer(unit, outcome)
    return answer if answer is not NOT_PLAIN else (yield from further(unit, world, exchange, outcome))


def common(unit: Unit, world: World) -> Exchange | None:
    """The exchange that most requests need: one on a known server; None when something has to come before it."""
    routes, now = world.routes, world.clock()
    node = routes.node(unit.tag)
    if node is None or unit.durability != "memory" or routes.due(now):
        return None
    if not world.knowledge.checked(node, now - world.policy.check_interval_seconds):
        return None
    return Exchange(node, unit.commands, now + world.policy.call_timeout_seconds, unit.own_connection)


def plain_answer(unit: Unit, outcome: Outcome | None) -> Any:
    """The reply that answers the request, or `NOT_PLAIN` when there is more to do."""
    if type(outcome) is not list:
        return NOT_PLAIN
    answer = unit.answer(outcome)
    return answer if type(answer) is not ServerReply else NOT_PLAIN


def further(unit: Unit, world: World, exchange: Exchange | None, outcome: Outcome | None) -> Steps[Any]:
    """Everything else, after the common exchange was made and did not suffice, or could not be made."""
    if exchange is None:
        return (yield from _Attempts(unit, world, world.clock() + world.policy.call_timeout_seconds).run())
    return (yield from _Attempts(unit, world, exchange.deadline).run(exchange.node, outcome))


class _Attempts:
    """The attempts of one request. `doubt` is set once one of them may have been applied."""

    def __init__(self, unit: Unit, world: World, deadline: float) -> None:
        self.unit = unit
        self.world = world
        self.deadline = deadline
        self.doubt = False
        self.reason = "no attempt was made"
        self.pauses = 0
        self.turns = 0
        # Set by a redirection, for the next attempt only.
        self.target: Node | None = None
        self.asking = False

    def run(self, node: Node | None = None, outcome: Outcome | None = None) -> Steps[Any]:
        """Attempt until there is an answer; `outcome` is that of a first attempt already made at `node`."""
        while True:
            if node is None or outcome is None:
                node = yield from self._place()
                outcome = (yield from self._send(node)) if node else None
            if node and outcome is not None:
                answer = yield from self._settle(node, outcome)
                if type(answer) is not ServerReply:
                    return answer
            node = outcome = None

    # -- before an attempt ------------------------------------------------------------------------------------

    def _place(self) -> Steps[Node | None]:
        """The server for the next attempt, known to suit; None after a setback that was paused for."""
        try:
            return (yield from self._prepared())
        except SetbackError as setback:
            self.world.routes.suspect()
            yield from self._wait(str(setback))
            return None
        except LukhasRedisError as error:
            self._fail(error)

    def _prepared(self) -> Steps[Node | None]:
        world, routes = self.world, self.world.routes
        if self.target is None and (routes.due(world.clock()) or routes.node(self.unit.tag) is None):
            yield Once("routes", self.deadline, lambda: routes.due(world.clock()), self._refresh)
        node = self.target or routes.node(self.unit.tag)
        if node is None:
            routes.suspect()
            raise SetbackError("no server owns the slot")
        yield from self._checked(node)
        return node

    def _refresh(self) -> Steps[None]:
        return self.world.routes.refresh(self.world.clock, self.deadline)

    def _checked(self, node: Node) -> Steps[None]:
        world, knowledge = self.world, self.world.knowledge

        def stale() -> bool:
            return not knowledge.checked(node, world.clock() - world.policy.check_interval_seconds)

        def unproved() -> bool:
            return not knowledge.durable(node, world.clock() - world.policy.check_interval_seconds)

        if stale():
            yield Once(("suits", node), self.deadline, stale, lambda: inspect(node, world, self.deadline))
        if self.unit.durability != "memory" and unproved():
            yield Once(
                ("durable", node), self.deadline, unproved, lambda: inspect_durability(node, world, self.deadline)
            )

    def _send(self, node: Node) -> Steps[Outcome]:
        unit, asking = self.unit, self.asking
        self.target, self.asking = None, False
        commands = unit.asking() if asking else unit.commands
        outcome: Outcome = yield Exchange(node, commands, self.deadline, unit.own_connection)
        if asking and type(outcome) is list:
            return list(unit.without_asking(outcome))
        return outcome

    # -- after an attempt -------------------------------------------------------------------------------------

    def _settle(self, node: Node, outcome: Outcome) -> Steps[Any]:
        """The answer, or the error reply after everything was done that a next attempt needs."""
        if isinstance(outcome, NotSent):
            return (yield from self._not_sent(node, outcome))
        if isinstance(outcome, Lost):
            return (yield from self._lost(node, outcome))
        answer = self.unit.answer(outcome)
        if type(answer) is not ServerReply:
            self.unit.confirm(outcome, self.world.policy)
            return answer
        yield from self._refusal(node, str(answer))
        return answer

    def _not_sent(self, node: Node, outcome: NotSent) -> Steps[ServerReply]:
        reason = outcome.reply or outcome.reason
        error = outcome.error
        if error is None and outcome.reply:
            error = final_error(judge(outcome.reply), reason, self.unit.request, str(node))
        if error is not None:
            self._fail(error)
        self.world.routes.suspect()
        yield from self._wait(f"{node}: {reason}")
        return ServerReply(reason)

    def _lost(self, node: Node, outcome: Lost) -> Steps[ServerReply]:
        self.doubt = self.doubt or not self.unit.reads_only
        self.world.knowledge.forget(node)
        self.world.routes.suspect()
        self.reason = f"{node}: {outcome.reason}"
        if not self.unit.repeatable:
            self._give_up()
        yield from self._wait(self.reason)
        return ServerReply(outcome.reason)

    def _refusal(self, node: Node, message: str) -> Steps[None]:
        """Do what an error reply asks for before the next attempt, or raise what it means."""
        verdict = judge(message)
        if verdict is Verdict.REFUSED:
            raise refused(message)
        if verdict is Verdict.TYPE:
            self._fail((yield from self._wrong_type(node, message)))
        error = final_error(verdict, message, self.unit.request, str(node))
        if error is not None:
            self._fail(error)
        self.reason = f"{node}: {message}"
        if verdict in (Verdict.LOAD, Verdict.MOVED, Verdict.ASK) and self.turns < _FREE_TURNS:
            self.turns += 1
            yield from self._turn(verdict, node, message)
            return
        if verdict in (Verdict.MOVE, Verdict.MOVED):
            self.world.knowledge.forget(node)
            self.world.routes.suspect()
        yield from self._wait(self.reason)

    def _turn(self, verdict: Verdict, node: Node, message: str) -> Steps[None]:
        """Follow a redirection or load the script: the next attempt can be made at once."""
        if verdict is Verdict.LOAD:
            outcome: Outcome = yield Exchange(node, [load_command(self.unit.request)], self.deadline)
            yield from self._loaded(node, outcome)
            return
        self.target = self.world.routes.moved(self.unit.tag, message, node)
        self.asking = verdict is Verdict.ASK

    def _loaded(self, node: Node, outcome: Outcome) -> Steps[None]:
        if isinstance(outcome, NotSent | Lost):
            # A script that was or was not loaded changes nothing for anybody: no doubt arises.
            self.world.routes.suspect()
            yield from self._wait(f"{node}: {outcome.reason}")
        elif type(outcome[0]) is ServerReply:
            message = str(outcome[0])
            error = final_error(judge(message), f"{message} (SCRIPT LOAD)", self.unit.request, str(node))
            if error is not None:
                self._fail(error)
            yield from self._wait(f"{node}: {message}")

    # -- ends -------------------------------------------------------------------------------------------------

    def _wrong_type(self, node: Node, message: str) -> Steps[LukhasRedisError]:
        """Name the keys that hold another type than the script's header declares."""
        request = self.unit.request.call if isinstance(self.unit.request, Snapshot) else self.unit.request
        if not isinstance(request, Call):
            key = str(request.words[1])
            return WrongKeyType(f"{key} holds another type than ours on {node}: {message}", key=key, server=str(node))
        asked = type_commands(request)
        outcome: Outcome = yield Exchange(node, [command for _, _, command in asked], self.deadline)
        found: list[str] = []
        if type(outcome) is list:
            held = [reply.decode() if isinstance(reply, bytes) else str(reply) for reply in outcome]
            found = [
                f"{key} holds a {kind}, not a {want}"
                for (key, want, _), kind in zip(asked, held, strict=True)
                if kind not in ("none", want)
            ]
        what = "; ".join(found) or f"one of {', '.join(key for key, _, _ in asked)}: {message}"
        return WrongKeyType(f"script {request.script.name}, nothing was changed: {what}", keys=found, server=str(node))

    def _wait(self, reason: str) -> Steps[None]:
        """Pause before the next attempt, longer each time, or end the call when there is no time for one."""
        self.reason = reason
        request, policy = self.unit.request, self.world.policy
        longest = min(policy.longest_pause_seconds, policy.first_pause_seconds * 2**self.pauses)
        pause = longest * (0.5 + self.world.chance() / 2)
        reserve = min(_LONGEST_REPLY_SECONDS, policy.call_timeout_seconds * _REPLY_SHARE)
        late = self.world.clock() + pause + reserve >= self.deadline
        if late or (isinstance(request, Call) and request.best_effort):
            self._give_up()
        self.pauses += 1
        self.turns = 0
        yield Pause(pause)

    def _fail(self, error: LukhasRedisError) -> NoReturn:
        """End with an error that says nothing of this attempt was applied; an earlier one may have been."""
        if self.doubt:
            self.reason = f"{self.reason}; then: {error.message}"
            self._give_up(error)
        raise error

    def _give_up(self, cause: LukhasRedisError | None = None) -> NoReturn:
        if not self.doubt:
            raise Unavailable(f"not applied: {self.reason}", reason=self.reason)
        request_id = self.unit.request_id
        advice = (
            f"repeating it with request_id {request_id!r} is safe" if request_id else "it has no request id to repeat"
        )
        raise OutcomeUnknown(
            f"it may or may not have been applied, {advice}: {self.reason}", request_id=request_id, reason=self.reason
        ) from cause
