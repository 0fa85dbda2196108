"""`build_context`: defaults, refusals by field, and results that share nothing."""

from __future__ import annotations

from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import pytest

from lukhas_redis.build import BuiltContext, SessionRef, build_context
from lukhas_redis.errors import InvalidArgument, InvalidId

ANY_INPUT: dict[str, Any] = {
    "session": {"id": "s-1"},
    "tenant": "shop",
    "policy_hints": {"ttl": 60, "models": ["a", {"b": 1}]},
    "mode": "paused",
}


@pytest.mark.parametrize("nothing", [None, {}, {"session": {}}, BuiltContext()])
def test_defaults(nothing: Any) -> None:
    """What is not given gets its default."""
    built = build_context(nothing)
    assert (built.session.id, built.tenant, built.policy_hints, built.mode) == ("local", "default", {}, "live")


def test_everything_given() -> None:
    """What is given arrives, also from other mappings and from an earlier result."""
    built = build_context(ANY_INPUT)
    assert built.model_dump() == ANY_INPUT
    frozen = MappingProxyType({**ANY_INPUT, "policy_hints": OrderedDict(ANY_INPUT["policy_hints"])})
    assert build_context(frozen) == build_context(built) == build_context(built.model_dump()) == built
    assert build_context({**ANY_INPUT, "session": SessionRef(id="s-1")}) == built


@pytest.mark.parametrize("mode", ["live", "dry_run", "paused"])
def test_mode(mode: Any) -> None:
    """The mode is honoured, from the input and from the argument, which wins."""
    assert build_context({"mode": mode}).mode == mode
    assert build_context(None, mode=mode).mode == mode
    assert build_context({"mode": "paused"}, mode=mode).mode == mode


@pytest.mark.parametrize("mode", ["LIVE", "dry-run", "", True, 1])
def test_bad_mode(mode: Any) -> None:
    """A mode that does not exist is refused by name, from the input and from the argument."""
    calls: list[dict[str, Any]] = [{"ctx_in": {"mode": mode}}, {"ctx_in": None, "mode": mode}]
    for arguments in calls:
        with pytest.raises(InvalidArgument, match=r"^mode: ") as refused:
            build_context(**arguments)
        assert refused.value.fields["field"] == "mode"


@pytest.mark.parametrize(
    "ctx_in, field",
    [
        ({"sesion": {}}, "sesion"),
        ({"session": {"id": "x", "name": "y"}}, "session.name"),
        ({1: 2}, "1"),
        ({"session": None}, "session"),
        ({"session": "s-1"}, "session"),
        ({"session": {"id": 7}}, "session.id"),
        ({"session": {"id": None}}, "session.id"),
        ({"session": {"id": ["x"]}}, "session.id"),
        ({"session": {"id": b"x"}}, "session.id"),
        ({"tenant": None}, "tenant"),
        ({"tenant": 7}, "tenant"),
        ({"policy_hints": None}, "policy_hints"),
        ({"policy_hints": []}, "policy_hints"),
        ({"policy_hints": {1: 2}}, "policy_hints.1"),
        ({"policy_hints": {"a": (n for n in (1,))}}, "policy_hints"),
        ({"mode": None}, "mode"),
    ],
)
def test_bad_input(ctx_in: Any, field: str) -> None:
    """An unknown key or a wrong type is refused by the name of the field."""
    with pytest.raises(InvalidArgument, match=f"^{field}[: ]") as refused:
        build_context(ctx_in)
    assert refused.value.fields["field"] == field


@pytest.mark.parametrize("ctx_in", ["tenant", [], 5, [("tenant", "x")], SessionRef()])
def test_bad_container(ctx_in: Any) -> None:
    """An input that is no mapping is refused."""
    with pytest.raises(InvalidArgument, match=r"^ctx_in must be a mapping"):
        build_context(ctx_in)


@pytest.mark.parametrize("tenant", ["", "a" * 65, "a b", "{a}", "a:b", "a/b", "a*", "a\n", "a\0", "é", "\ud800"])
def test_bad_tenant(tenant: str) -> None:
    """A tenant that is no name is refused by its field, from the input and in the model itself."""
    with pytest.raises(InvalidId, match=r"^tenant: ") as refused:
        build_context({"tenant": tenant})
    assert refused.value.fields["field"] == "tenant"
    with pytest.raises(InvalidId, match=r"^tenant: "):
        BuiltContext(tenant=tenant)


@pytest.mark.parametrize("sid", ["", "a" * 257, "é" * 129, "a\nb", "a\0", "\x7f", "e\u0301", "\ud800"])
def test_bad_session(sid: str) -> None:
    """A session id that is empty, over-long, has control characters or surrogates, or is not NFC, is refused."""
    with pytest.raises(InvalidId, match=r"^session\.id: ") as refused:
        build_context({"session": {"id": sid}})
    assert refused.value.fields["field"] == "session.id"


@pytest.mark.parametrize("sid", ["a", "a" * 256, "é" * 128, "{a}:b/c *?", "日本"])
def test_good_session(sid: str) -> None:
    """Any other text of up to 256 bytes is a session id."""
    assert build_context({"session": {"id": sid}}).session.id == sid


def test_nothing_is_shared() -> None:
    """Changing the input, a result or a result made from it changes nothing else, at any depth."""
    given: dict[str, Any] = {"policy_hints": {"deep": {"list": [1]}}}
    first, second = build_context(given), build_context(given)
    third = build_context(first)
    given["policy_hints"]["deep"]["list"].append("input")
    first.policy_hints["deep"]["list"].append("first")
    second.policy_hints["deep"]["more"] = "second"
    assert third.policy_hints == {"deep": {"list": [1]}}
    assert first.policy_hints == {"deep": {"list": [1, "first"]}}
    assert second.policy_hints == {"deep": {"list": [1], "more": "second"}}


def test_defaults_are_not_shared() -> None:
    """Two results that were made from nothing have hints of their own."""
    first, second = build_context(None), build_context(None)
    first.policy_hints["x"] = 1
    assert second.policy_hints == {}


def test_too_deep_hints() -> None:
    """Hints nested too deeply to copy are refused by name instead of ending in a RecursionError."""
    hints: dict[str, Any] = {}
    for _ in range(100_000):
        hints = {"in": hints}
    with pytest.raises(InvalidArgument, match=r"^policy_hints cannot be copied: RecursionError"):
        build_context({"policy_hints": hints})


def test_frozen() -> None:
    """A result cannot be given values that were not checked."""
    built: Any = build_context(None)
    with pytest.raises(ValueError, match="frozen"):
        built.tenant = "a b"
