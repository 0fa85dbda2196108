"""The engine's rules one by one: what each kind of outcome leads to, with scripted replies and virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from lukhas_redis.calls import Refused, Sent
from lukhas_redis.errors import (
    AccessDenied,
    DurabilityUnknown,
    LukhasRedisError,
    OutcomeUnknown,
    OutOfMemory,
    ServerUnsuitable,
    Unavailable,
    WrongKeyType,
)
from lukhas_redis.transport.engine import attempt
from lukhas_redis.transport.routes import ClusterRoutes, Routes, SingleRoute
from lukhas_redis.transport.steps import Exchange, Lost, Node, NotSent, Once, Pause, ServerReply, Step
from lukhas_redis.transport.world import Policy, ServerInfo, World
from tests.unit.transport.scripts_for_tests import COUNT, LOOK, count_call, read, simple_call, snapshot, take_call

A, B = Node("a", 1), Node("b", 2)
DURABLE = [b"appendonly", b"yes", b"appendfsync", b"always"]
Outcome = Any


class Script:
    """Answers the engine's exchanges from a list and records every step."""

    def __init__(self, *outcomes: Outcome, routes: Routes | None = None, **policy: Any) -> None:
        self.outcomes = list(outcomes)
        self.steps: list[Step] = []
        self.now = 100.0
        self.world = World(Policy(**policy), routes or SingleRoute(A), clock=lambda: self.now, chance=lambda: 1.0)
        for node in (A, B):
            self.world.knowledge.found_suitable(node, self.now, ServerInfo("redis", "7.0.15", "single"))
            self.world.knowledge.found_durable(node, self.now)

    def run(self, request: Sent) -> Any:
        """Drive one attempt; the last outcome is repeated for ever."""
        steps = attempt(request, self.world)
        try:
            step = next(steps)
            while True:
                self.steps.append(step)
                step = steps.send(self._result(step))
        except StopIteration as done:
            return done.value

    def _result(self, step: Step) -> Any:
        if isinstance(step, Exchange):
            outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
            return outcome(step) if callable(outcome) else outcome
        if isinstance(step, Pause):
            self.now += step.seconds
        return None

    @property
    def exchanges(self) -> list[Exchange]:
        """The exchanges so far."""
        return [step for step in self.steps if isinstance(step, Exchange)]

    @property
    def pauses(self) -> list[float]:
        """The pauses so far, in seconds."""
        return [step.seconds for step in self.steps if isinstance(step, Pause)]

    def names(self) -> list[str]:
        """The first word of every command sent."""
        return [str(command[0]) for exchange in self.exchanges for command in exchange.commands]


def error(text: str) -> list[Any]:
    """The replies to one command that was refused."""
    return [ServerReply(text)]


def cluster() -> ClusterRoutes:
    """A cluster whose every slot is A's."""
    routes = ClusterRoutes([A])
    steps = routes.refresh(lambda: 100.0, 200.0)
    next(steps)
    with pytest.raises(StopIteration):
        steps.send([[[0, 16383, [b"a", 1, b"id"]]]])
    return routes


def test_a_good_reply_takes_one_exchange() -> None:
    """On a known server a call is one exchange and nothing else."""
    script = Script([7])
    assert script.run(count_call("x")) == 7
    assert len(script.steps) == 1


@pytest.mark.parametrize(
    "word", ["BUSY", "LOADING", "MISCONF", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "NOREPLICAS", "READONLY"]
)
def test_a_passing_refusal_is_retried(word: str) -> None:
    """What a server cannot do now is asked again after a pause, and answered when it can."""
    script = Script(error(f"{word} text"), [7])
    script.world.routes.suspect()
    _known_again(script)
    assert script.run(count_call("x")) == 7
    assert script.pauses == [pytest.approx(0.01)]


def _known_again(script: Script) -> None:
    """Refusals that put a server in doubt have it inspected again; that is not what these tests are about."""
    script.world.knowledge.forget = lambda node: None  # type: ignore[method-assign]


@pytest.mark.parametrize("word", ["BUSY", "LOADING", "MISCONF", "TRYAGAIN"])
def test_a_lasting_refusal_is_unavailable_at_the_deadline(word: str) -> None:
    """What a server never takes is unavailable; the last attempt leaves time for its reply before the deadline."""
    script = Script(error(f"{word} text"))
    with pytest.raises(Unavailable, match=word):
        script.run(count_call("x"))
    assert 103.9 <= script.now <= 104.5
    assert script.pauses == sorted(script.pauses)
    assert script.pauses[-1] == 0.5


def test_pauses_are_jittered() -> None:
    """Chance shortens a pause by up to half, so that clients do not come back together."""
    script = Script(error("BUSY"), [7])
    script.world.chance = lambda: 0.0
    script.run(count_call("x"))
    assert script.pauses == [pytest.approx(0.005)]


@pytest.mark.parametrize(
    "text,kind", [("OOM text", OutOfMemory), ("NOPERM text", AccessDenied), ("ERR text", LukhasRedisError)]
)
def test_what_no_retry_mends_fails_at_once(text: str, kind: type[LukhasRedisError]) -> None:
    """Full memory, missing rights and mistakes are reported after one exchange, without a pause."""
    script = Script(error(text))
    with pytest.raises(kind):
        script.run(count_call("x"))
    assert len(script.steps) == 1


def test_wrong_credentials_fail_at_once() -> None:
    """A handshake that is refused for its password is not repeated."""
    script = Script(NotSent("cannot connect", "WRONGPASS invalid username-password pair"))
    with pytest.raises(AccessDenied, match="WRONGPASS"):
        script.run(count_call("x"))
    assert len(script.steps) == 1


def test_a_refusal_of_the_script_is_raised_as_it_is() -> None:
    """A code word ends the call as Refused."""
    with pytest.raises(Refused) as caught:
        Script(error("LKLIMIT by=3 script: x, on @user_script:1.")).run(count_call("x"))
    assert caught.value.facts == {"by": "3"}


def test_nothing_sent_is_retried_even_without_request_id() -> None:
    """A connection that could not be opened leaves no doubt, so any call may be tried again."""
    script = Script(NotSent("refused"), [7])
    assert script.run(count_call("x", None)) == 7


def test_a_lost_reply_without_request_id_is_unknown_at_once() -> None:
    """Without a request id a second try could be a second effect."""
    script = Script(Lost("reset"))
    with pytest.raises(OutcomeUnknown):
        script.run(count_call("x", None))
    assert len(script.steps) == 1


@pytest.mark.parametrize(
    "after", [error("BUSY"), error("OOM"), error("NOPERM"), NotSent("refused"), NotSent("x", "WRONGPASS x")]
)
def test_doubt_outlives_later_refusals(after: Outcome) -> None:
    """A lost reply followed by sure refusals stays unknown: the first attempt may have been applied."""
    script = Script(Lost("reset"), after)
    _known_again(script)
    with pytest.raises(OutcomeUnknown) as caught:
        script.run(count_call("x", "id7"))
    assert caught.value.fields["request_id"] == "id7"


@pytest.mark.parametrize("answer", [[7], error("LKLIMIT by=1")])
def test_a_real_answer_ends_doubt(answer: Outcome) -> None:
    """After a lost reply, an answer to the repeat (a refusal too) is the answer to the call."""
    script = Script(Lost("reset"), answer)
    _known_again(script)
    if isinstance(answer[0], ServerReply):
        with pytest.raises(Refused):
            script.run(count_call("x"))
    else:
        assert script.run(count_call("x")) == 7


@pytest.mark.parametrize("request_", [simple_call(LOOK, "x"), read("x", "GET", "k"), snapshot("x")])
def test_reads_are_never_unknown(request_: Sent) -> None:
    """What cannot change anything is repeated, and unavailable when it never succeeds."""
    script = Script(Lost("reset"))
    _known_again(script)
    with pytest.raises(Unavailable):
        script.run(request_)
    assert len(script.exchanges) > 3


@pytest.mark.parametrize("outcome", [error("BUSY"), NotSent("refused")])
def test_best_effort_is_one_attempt(outcome: Outcome) -> None:
    """A best effort call is not retried."""
    script = Script(outcome)
    with pytest.raises(Unavailable):
        script.run(count_call("x", best_effort=True))
    assert len(script.exchanges) == 1


def test_best_effort_includes_loading_the_script() -> None:
    """A script that the server does not know yet is loaded for a best effort call, too."""
    script = Script(error("NOSCRIPT"), [b"sha"], [7])
    assert script.run(count_call("x", best_effort=True)) == 7


def test_an_unknown_script_is_loaded_on_that_server() -> None:
    """NOSCRIPT leads to SCRIPT LOAD on the same server and the call again, without a pause."""
    script = Script(error("NOSCRIPT No matching script."), [b"sha"], [7])
    assert script.run(count_call("x")) == 7
    assert script.names() == ["EVALSHA", "SCRIPT", "EVALSHA"]
    assert script.exchanges[1].commands[0] == ("SCRIPT", "LOAD", COUNT.text)
    assert {exchange.node for exchange in script.exchanges} == {A}
    assert script.pauses == []


def test_loading_may_be_forbidden() -> None:
    """A user that may not load scripts is told so."""
    with pytest.raises(AccessDenied, match="SCRIPT LOAD"):
        Script(error("NOSCRIPT"), error("NOPERM no permissions to run 'script|load'")).run(count_call("x"))


def test_a_script_that_is_never_known_does_not_spin() -> None:
    """A server that forgets every script at once is asked with pauses, until the deadline."""
    script = Script(lambda exchange: [b"sha"] if exchange.commands[0][0] == "SCRIPT" else error("NOSCRIPT"))
    with pytest.raises(Unavailable, match="NOSCRIPT"):
        script.run(count_call("x"))
    assert len(script.exchanges) < 200


def test_moved_is_followed_and_remembered() -> None:
    """MOVED is followed at once, and later calls start at the new owner."""
    script = Script(error("MOVED 1 b:2"), [7], routes=cluster())
    assert script.run(count_call("x")) == 7
    assert [exchange.node for exchange in script.exchanges] == [A, B]
    assert script.pauses == []
    assert script.world.routes.node("x") == B


def test_ask_is_followed_once_and_not_remembered() -> None:
    """ASK sends the whole unit to the other server, each command after ASKING; later calls start where they did."""
    staged = take_call("x", b"payload")
    refused = [ServerReply("ASK 1 b:2"), ServerReply("ASK 1 b:2"), ServerReply("ASK 1 b:2")]
    script = Script(refused, [b"OK", b"OK", b"OK", 7, b"OK", 0], routes=cluster())
    assert script.run(staged) == 7
    assert script.names()[3:] == ["ASKING", "SET", "ASKING", "EVALSHA", "ASKING", "UNLINK"]
    assert script.exchanges[1].node == B
    assert script.world.routes.node("x") == A


def test_ask_counts_for_a_whole_transaction() -> None:
    """One ASKING before MULTI covers the transaction."""
    refused = [b"OK", ServerReply("ASK 1 b:2"), ServerReply("ASK 1 b:2"), ServerReply("EXECABORT")]
    script = Script(refused, [b"OK", b"OK", b"QUEUED", b"QUEUED", [7, b"7"]], routes=cluster())
    assert script.run(snapshot("x")) == [7, b"7"]
    assert script.names()[4:] == ["ASKING", "MULTI", "EVALSHA", "GET", "EXEC"]


def test_two_servers_that_name_each_other_do_not_spin() -> None:
    """Endless redirections are followed with pauses, until the deadline."""
    script = Script(*[error("MOVED 1 b:2"), error("MOVED 1 a:1")] * 200, routes=cluster())
    _known_again(script)
    with pytest.raises(Unavailable, match="MOVED"):
        script.run(count_call("x"))
    assert len(script.exchanges) < 120


def test_a_script_lost_inside_a_transaction_is_loaded_and_the_whole_done_again() -> None:
    """NOSCRIPT inside EXEC loads the script and repeats the transaction."""
    lost = [b"OK", b"QUEUED", b"QUEUED", [ServerReply("NOSCRIPT"), b"7"]]
    script = Script(lost, [b"sha"], [b"OK", b"QUEUED", b"QUEUED", [7, b"7"]])
    assert script.run(snapshot("x")) == [7, b"7"]


def test_a_stage_that_does_not_fit_is_the_cause() -> None:
    """When SET of the stage is refused, that is reported, not that the script found no stage."""
    outcome = [ServerReply("OOM command not allowed"), ServerReply("LKSTAGE"), 0]
    with pytest.raises(OutOfMemory):
        Script(outcome).run(take_call("x", b"payload"))


def test_an_answer_of_the_script_counts_whatever_became_of_the_stage() -> None:
    """A repeat that is answered from its record is good although its stage could not be set."""
    assert Script([ServerReply("OOM command not allowed"), 7, 0]).run(take_call("x", b"payload")) == 7


def test_a_wrong_type_names_the_keys() -> None:
    """WRONGTYPE asks for the types of all keys and names those that differ from the header."""
    script = Script(error("WRONGTYPE Operation"), [b"list", b"none"])
    with pytest.raises(WrongKeyType) as caught:
        script.run(count_call("x"))
    assert caught.value.fields["keys"] == ["t:{x}:counter holds a list, not a string"]
    assert script.names() == ["EVALSHA", "TYPE", "TYPE"]


def test_a_local_write_is_confirmed_in_its_own_unit() -> None:
    """Level local shows the settings right behind the script, and passes when they are as promised."""
    script = Script([7, DURABLE])
    assert script.run(count_call("x", durability="local")) == 7
    assert script.names() == ["EVALSHA", "CONFIG"]
    assert script.exchanges[0].own_connection


def test_a_replicated_write_counts_replicas() -> None:
    """Level replicated waits on the same connection; too few replicas is DurabilityUnknown with the request id."""
    assert Script([7, DURABLE, 1]).run(count_call("x", durability="replicated")) == 7
    with pytest.raises(DurabilityUnknown, match="0 of 1") as caught:
        Script([7, DURABLE, 0]).run(count_call("x", "id7", durability="replicated"))
    assert caught.value.fields["request_id"] == "id7"


def test_a_refusal_at_a_durable_level_is_a_refusal() -> None:
    """When the script said no, nothing is said about durability."""
    with pytest.raises(Refused):
        Script([ServerReply("LKLIMIT"), DURABLE, 0]).run(count_call("x", durability="replicated"))


def test_durability_is_checked_before_the_first_write() -> None:
    """A server not known to be durable is asked first, once, by whoever needs it."""
    script = Script([7, DURABLE])
    script.world.knowledge.forget(A)
    script.run(count_call("x", durability="local"))
    keys = [step.key for step in script.steps if isinstance(step, Once)]
    assert keys == [("suits", A), ("durable", A)]


def test_checks_are_repeated_after_their_interval() -> None:
    """A server checked longer ago than the interval is checked again before the call."""
    script = Script([7], check_interval_seconds=30.0)
    script.now += 31.0
    script.run(count_call("x"))
    assert [step.key for step in script.steps if isinstance(step, Once)] == [("suits", A)]


def test_an_unsuitable_server_after_doubt_stays_unknown() -> None:
    """A server that turns out unsuitable on reconnect does not turn an unknown outcome into a sure one."""
    unsuitable = ServerUnsuitable("it evicts", setting="maxmemory-policy")
    script = Script(Lost("reset"), NotSent("unsuitable", error=unsuitable))
    _known_again(script)
    with pytest.raises(OutcomeUnknown) as caught:
        script.run(count_call("x"))
    assert caught.value.__cause__ is unsuitable


def test_the_deadline_travels_with_every_exchange() -> None:
    """Every exchange of a call carries the same deadline: call_timeout_seconds after it began."""
    script = Script(error("BUSY"), error("BUSY"), [7], call_timeout_seconds=3.0)
    script.run(count_call("x"))
    assert {exchange.deadline for exchange in script.exchanges} == {103.0}
