"""What docs/bus.md shows is true: its Python runs, and every guarantee names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lukhas_redis.bus import AsyncContextBus
from lukhas_redis.testing import RunningServer

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "bus.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    """The text under one heading."""
    return TEXT.split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]


def test_the_python_runs_from_top_to_bottom(
    server: RunningServer, tenant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All Python of the page is one program that ends well and says what the text says."""
    monkeypatch.setenv("LUKHAS_URL", server.url)
    monkeypatch.setenv("LUKHAS_TENANT", tenant)
    names: dict[str, object] = {"__name__": "bus_page"}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(compile(block, "bus.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "{'messages': [{'role': 'reviewer', 'content': 'read: hello'}]} 1"
    assert "context.ready {'step': 1} " in lines[1]


def test_a_worker_that_dies_ends_the_program(
    server: RunningServer, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever copies the first program sees what its worker died of, instead of waiting for its events."""

    async def dying(_: AsyncContextBus) -> None:
        raise ConnectionAbortedError("the worker died")

    monkeypatch.setenv("LUKHAS_URL", server.url)
    monkeypatch.setenv("LUKHAS_TENANT", tenant)
    monkeypatch.setattr(AsyncContextBus, "run", dying)
    first = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)[0]
    with pytest.raises(ConnectionAbortedError):
        exec(compile(first, "bus.md", "exec"), {"__name__": "bus_page"})


def test_every_guarantee_names_a_test() -> None:
    """A line that promises something says what shows it."""
    claims = re.split(r"^- ", section("Guarantees"), flags=re.MULTILINE)[1:]
    assert len(claims) > 10
    assert [claim for claim in claims if "::test_" not in claim] == []


def test_every_test_named_exists() -> None:
    """A guarantee whose test was renamed or removed is found out."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert named
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file()
        or not re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert missing == []
