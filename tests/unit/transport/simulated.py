"""A cluster of two servers in memory, with virtual time and faults drawn from a seed.

What belongs here: what servers do with commands, and which faults befall an exchange. What does not: the rules under
test. Invariant: `runs` counts every execution that had an effect, whatever the client was told about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

from lukhas_redis.calls import Command
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.transport.routes import ClusterRoutes, slot_of
from lukhas_redis.transport.steps import (
    Exchange,
    Lost,
    Node,
    NotSent,
    Once,
    Outcome,
    Pause,
    Round,
    ServerReply,
    SetbackError,
    Step,
    Steps,
)
from lukhas_redis.transport.world import Policy, World

A, B = Node("a", 1), Node("b", 2)
PASSING = ("BUSY", "LOADING", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "MASTERDOWN", "NOREPLICAS", "MISCONF")
ENDING = ("OOM", "NOPERM")
INFO = b"redis_version:7.0.15\r\nredis_mode:cluster\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n"


class Simulation:
    """Two servers, one of which owns every slot at a time, and the clock."""

    def __init__(self, seed: int, *, faults: float = 0.6, ending: float = 0.02) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.faults = faults
        self.ending = ending
        self.owner = A
        self.moving_to: Node | None = None
        self.known: dict[Node, set[str]] = {A: set(), B: set()}
        self.runs: Counter[str] = Counter()
        self.answers: dict[str, int] = {}
        self.stages: dict[str, bytes] = {}
        self.taken: Counter[str] = Counter()
        self.exchanges: list[Exchange] = []
        policy = Policy(call_timeout_seconds=5.0, check_interval_seconds=1000.0)
        self.world = World(policy, ClusterRoutes([A, B]), clock=lambda: self.now, chance=self.random.random)

    # -- the shell --------------------------------------------------------------------------------------------

    def drive(self, steps: Steps[Any]) -> Any:
        """Carry out steps to their end."""
        try:
            step = next(steps)
            while True:
                try:
                    result = self._perform(step)
                except (LukhasRedisError, SetbackError) as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(result)
        except StopIteration as done:
            return done.value

    def _perform(self, step: Step) -> Any:
        if isinstance(step, Exchange):
            return self._exchange(step)
        if isinstance(step, Round):
            return [self._exchange(exchange) for exchange in step.exchanges]
        if isinstance(step, Pause):
            self.now += step.seconds
        elif isinstance(step, Once) and step.needed():
            self.drive(step.steps())
        return None

    def _exchange(self, exchange: Exchange) -> Outcome:
        self.exchanges.append(exchange)
        self.now += self.random.uniform(0.0001, 0.01)
        if self.random.random() >= self.faults:
            return self.serve(exchange.node, exchange.commands)
        return self._fault(exchange)

    def _fault(self, exchange: Exchange) -> Outcome:
        draw = self.random.random()
        if draw < 0.2:
            return NotSent("refused")
        if draw < 0.4:
            # The connection breaks after some commands were executed, all or none among them.
            executed = self.random.randint(0, len(exchange.commands))
            self.serve(exchange.node, exchange.commands[:executed])
            self.now = min(exchange.deadline, self.now + self.random.uniform(0, 2))
            return Lost("reset")
        if draw < 0.6:
            self._upset()
            return self.serve(exchange.node, exchange.commands)
        word = self.random.choice(ENDING) if self.random.random() < self.ending else self.random.choice(PASSING)
        return [ServerReply(f"{word} as drawn") for _ in exchange.commands]

    def _upset(self) -> None:
        """The slot moves, is about to move, or a server forgets its scripts."""
        draw = self.random.random()
        if draw < 0.4:
            self.owner, self.moving_to = (B if self.owner == A else A), None
        elif draw < 0.7:
            self.moving_to = B if self.owner == A else A
        else:
            self.known[self.random.choice((A, B))].clear()

    # -- the servers ------------------------------------------------------------------------------------------

    def serve(self, node: Node, commands: Sequence[Command]) -> list[Any]:
        """Execute commands of one connection at a node."""
        replies: list[Any] = []
        asking = False
        for command in commands:
            replies.append(self._serve_one(node, command, asking))
            asking = command[0] == "ASKING"
        return replies

    def _serve_one(self, node: Node, command: Command, asking: bool) -> Any:
        match command:
            case ("INFO", _):
                return INFO
            case ("CLUSTER", "SLOTS"):
                return [[0, 16383, [self.owner.host.encode(), self.owner.port, b"id"]]]
            case ("SCRIPT", "LOAD", str(text)):
                self.known[node].add(text)
                return b"sha"
            case ("ASKING",):
                return b"OK"
            case ("CONFIG", *_):
                return [b"appendonly", b"yes", b"appendfsync", b"always"]
            case ("WAIT", int(number), _):
                return number
        return self._redirection(node, command, asking) or self._on_keys(node, command)

    def _redirection(self, node: Node, command: Command, asking: bool) -> ServerReply | None:
        slot = slot_of("x")
        if node == self.owner and self.moving_to is not None and command[0] != "UNLINK":
            return ServerReply(f"ASK {slot} {self.moving_to.host}:{self.moving_to.port}")
        if node == self.owner or (asking and node == self.moving_to):
            return None
        return ServerReply(f"MOVED {slot} {self.owner.host}:{self.owner.port}")

    def _on_keys(self, node: Node, command: Command) -> Any:
        name, key = command[0], str(command[1])
        if name == "SET" and isinstance(command[2], bytes):
            self.stages[key] = command[2]
            return b"OK"
        if name == "UNLINK":
            return int(self.stages.pop(key, None) is not None)
        if name == "EVALSHA":
            return self._evaluate(node, command)
        raise AssertionError(f"the simulation does not know {command!r:.80}")

    def _evaluate(self, node: Node, command: Command) -> Any:
        from tests.unit.transport.scripts_for_tests import COUNT, TAKE

        script = {COUNT.sha: COUNT, TAKE.sha: TAKE}[str(command[1])]
        if script.text not in self.known[node]:
            return ServerReply("NOSCRIPT No matching script. Please use EVAL.")
        if script is COUNT:
            return self._count(str(command[4]))
        payload = self.stages.pop(str(command[3]), None)
        if payload is None:
            return ServerReply("LKSTAGE script: x, on @user_script:9.")
        self.taken[str(command[3])] += 1
        return len(payload)

    def _count(self, done: str) -> int:
        if done not in self.answers:
            self.runs[done] += 1
            self.answers[done] = sum(self.runs.values())
        return self.answers[done]
