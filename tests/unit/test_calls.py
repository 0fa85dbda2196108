"""What operations yield, and running several side by side.

What belongs here: `Call`, `Refused`, `together`. What does not: sending (`tests/unit/transport`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lukhas_redis.calls import Call, Op, Read, Refused, Request, together
from lukhas_redis.errors import ContextNotFound, LukhasRedisError, Unavailable
from lukhas_redis.scripts import load


def read(name: str) -> Read:
    """A request that tests tell apart by its word."""
    return Read("t", (name,))


def asking(*names: str) -> Op[list[Any]]:
    """Ask for one after the other; the replies."""
    replies: list[Any] = []
    for name in names:
        reply = yield read(name)
        replies.append(reply)
    return replies


def asking_at_once(*names: str) -> Op[list[Any]]:
    """Ask for all of them in one step; the replies."""
    return (yield tuple(read(name) for name in names))  # type: ignore[no-any-return]


def failing(error: Exception, *, after: str) -> Op[None]:
    """Ask once and then fail."""
    yield read(after)
    raise error


def forgiving(name: str) -> Op[str]:
    """Ask, and answer with the class of the error when there is one."""
    try:
        yield read(name)
    except LukhasRedisError as error:
        return type(error).__name__
    return "no error"


def drive(op: Op[Any], answer: Callable[[Request], Any]) -> tuple[Any, list[list[Any]]]:
    """Run an operation; its result, and the words of each step."""
    steps: list[list[Any]] = []
    reply: Any = None
    while True:
        try:
            wanted = op.send(reply)
        except StopIteration as done:
            return done.value, steps
        requests: Sequence[Request] = wanted if isinstance(wanted, tuple) else (wanted,)
        steps.append([request.words[0] for request in requests if isinstance(request, Read)])
        replies = [answer(request) for request in requests]
        reply = replies if isinstance(wanted, tuple) else replies[0]


def upper(request: Request) -> Any:
    """The word in capitals; a word that starts with `no` is answered with an error."""
    assert isinstance(request, Read)
    word = str(request.words[0])
    return Unavailable(word) if word.startswith("no") else word.upper()


def test_operations_go_side_by_side_one_step_for_all() -> None:
    """Each step sends what every unfinished operation waits for; the results stand in the operations' places."""
    result, steps = drive(together([asking("a", "b", "c"), asking("d"), asking(), asking("e", "f")]), upper)
    assert result == [["A", "B", "C"], ["D"], [], ["E", "F"]]
    assert steps == [["a", "d", "e"], ["b", "f"], ["c"]]


def test_an_operation_with_several_requests_gets_all_its_replies() -> None:
    """A tuple of requests is answered with a list, errors in it, between operations that ask for one."""
    result, steps = drive(together([asking("a"), asking_at_once("b", "no", "c"), asking("d", "e")]), upper)
    assert steps == [["a", "b", "no", "c", "d"], ["e"]]
    assert result[0] == ["A"]
    assert (result[1][0], type(result[1][1]), result[1][2]) == ("B", Unavailable, "C")
    assert result[2] == ["D", "E"]


def test_one_that_fails_does_not_disturb_the_others() -> None:
    """Its error stands in its place."""
    gone = ContextNotFound("gone")
    result, _ = drive(together([asking("a", "b"), failing(gone, after="x"), asking("no"), asking("c")]), upper)
    assert result[0] == ["A", "B"]
    assert result[1] is gone
    assert isinstance(result[2], Unavailable)
    assert result[3] == ["C"]


def test_an_error_for_one_request_is_thrown_into_its_operation() -> None:
    """The operation may handle it as it would alone."""
    assert drive(together([forgiving("no"), forgiving("yes")]), upper)[0] == ["Unavailable", "no error"]


def test_a_mistake_is_not_taken_for_a_result() -> None:
    """Only errors of the package become results; a bug comes out."""
    with pytest.raises(ZeroDivisionError):
        drive(together([failing(ZeroDivisionError(), after="a")]), upper)


def test_nothing_to_do_asks_nothing() -> None:
    """No operations, no requests."""
    assert drive(together([]), upper) == ([], [])


def test_a_refusal_has_its_facts() -> None:
    """A fact is read as a number, and one that was not given counts 0."""
    refused = Refused("LKCONFLICT", {"actual": "5"})
    assert (refused.word, refused.number("actual"), refused.number("other")) == ("LKCONFLICT", 5, 0)


@pytest.mark.parametrize(
    "script, request_id, repeatable",
    [("preserve", None, False), ("preserve", "r1", True), ("restore", None, True), ("touch", None, False)],
)
def test_only_a_read_or_a_named_request_may_be_repeated(script: str, request_id: str | None, repeatable: bool) -> None:
    """Anything else could take effect twice after a lost reply."""
    assert Call(load(script), "t", (0,), request_id=request_id).repeatable is repeatable
