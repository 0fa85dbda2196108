"""The two stores have the same methods with the same names, arguments and words."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from lukhas_redis import AsyncContextStore, ContextStore, ops

# An event loop needs no batch: calls of one of its turns leave together.
SYNC_ONLY = {"batch"}
METHODS = sorted(name for name in vars(ContextStore) if not name.startswith("_") and name not in SYNC_ONLY)


def test_both_stores_have_the_same_public_methods() -> None:
    """Neither store has a method the other lacks, and every operation is a method of both."""
    assert sorted(name for name in vars(AsyncContextStore) if not name.startswith("_")) == METHODS
    assert set(ops.__all__) - {"Cursor", "list_page"} <= set(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_and_takes_the_same_in_both(name: str) -> None:
    """Docstring and arguments are the same; the docstring is a sentence and tells what is raised."""
    sync, aio = getattr(ContextStore, name), getattr(AsyncContextStore, name)
    assert inspect.getdoc(sync) == inspect.getdoc(aio)
    assert _arguments(sync) == _arguments(aio)
    words = inspect.getdoc(sync)
    assert words is not None
    assert name == "close" or "Raises:" in words


@pytest.mark.parametrize("name", sorted(set(METHODS) & set(ops.__all__)))
def test_an_operation_is_its_method(name: str) -> None:
    """A method has its operation's arguments after self, and its docstring."""
    method, op = getattr(ContextStore, name), getattr(ops, name)
    assert inspect.getdoc(method) == inspect.getdoc(op)
    assert _arguments(method)[1:] == _arguments(op)[1:]
    assert _arguments(method)[0][0] == "self"


@pytest.mark.parametrize("cls", [ContextStore, AsyncContextStore])
def test_a_store_never_shows_a_password(cls: Any) -> None:
    """Its repr names the server and the tenant only."""
    text = repr(cls.connect("redis://user:secret@localhost:7/0", tenant="acme"))
    assert "secret" not in text
    assert "acme" in text
    assert "localhost:7" in text


def _arguments(method: Any) -> list[tuple[str, Any, Any]]:
    return [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]
