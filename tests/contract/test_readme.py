"""What README.md shows is true: its Python runs, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lukhas_redis.cli import app
from lukhas_redis.functions import verbs
from lukhas_redis.testing import RunningServer

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    """The fenced blocks of one kind, in order."""
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


def test_the_python_runs_from_top_to_bottom(
    server: RunningServer, tenant: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All Python of the README is one program that ends well and says what the text says."""
    monkeypatch.setenv("LUKHAS_URL", server.url)
    monkeypatch.setenv("LUKHAS_TENANT", tenant)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "coder ['coder']"
    assert lines[2:] == ["{'step': 2} True", "held by worker-1", "102 100"]


def test_the_commands_exist() -> None:
    """Every `lukhas` command and every FCALL verb shown is one that there is."""
    shown = "\n".join(blocks("console"))
    commands = set(re.findall(r"\$ lukhas (\w+)", shown))
    functions = set(re.findall(r"FCALL lukhas_(\w+)", shown))
    assert commands
    assert commands <= set(app.COMMANDS)
    assert functions
    assert functions <= {verb.name for verb in verbs()}


def test_the_make_targets_exist() -> None:
    """The two commands of the README are targets of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    shown = set(re.findall(r"\$ make (\w+)", README))
    assert shown == {"demo", "test"}
    assert shown <= targets


def test_the_links_lead_somewhere() -> None:
    """Every file that the README links to is there."""
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
