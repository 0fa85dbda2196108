"""docs/cli.md says what the command line does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lukhas_redis.cli.app import COMMANDS, Commands, lukhas
from lukhas_redis.cli.diagnosis import cluster, rights, server, tenant
from lukhas_redis.errors import LukhasRedisError

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def leaves() -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, those of families one by one."""
    ctx = click.Context(lukhas)
    for name in COMMANDS:
        command = Commands.get_command(lukhas, ctx, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", leaf) for sub, leaf in command.commands.items())
        else:
            yield name, command


@pytest.mark.parametrize("name, command", list(leaves()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_and_option_is_documented(name: str, command: click.Command) -> None:
    """The page has a heading for each command and names each of its own options below it."""
    text = DOCS.read_text(encoding="utf-8")
    heading = f"### lukhas {name.partition(' ')[0]}\n"
    assert heading in text
    section = text.split(heading)[1].split("\n### ")[0].split("\n## ")[0]
    assert f"lukhas {name}" in section
    for param in command.params:
        if isinstance(param, click.Option) and param.name not in ("url", "tenant", "config", "output"):
            assert any(re.search(rf"[`\[ ]{opt}\b", section) for opt in param.opts), param.opts


def test_every_exit_code_is_documented() -> None:
    """The table of exit codes has each that an error of the package can give."""
    text = DOCS.read_text(encoding="utf-8")
    codes, pending = {0, 1, 130}, [LukhasRedisError]
    while pending:
        kind = pending.pop()
        codes.add(kind.exit_code)
        pending += kind.__subclasses__()
    for code in codes:
        assert f"\n| {code} |" in text


def test_every_check_of_the_doctor_is_documented() -> None:
    """The table of checks has each name that a finding can carry."""
    text = DOCS.read_text(encoding="utf-8").split("### lukhas doctor")[1]
    names = set()
    for module in (cluster, rights, server, tenant):
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        names |= {part.split('"')[0] for part in source.replace('unknown("', 'Finding("').split('Finding("')[1:]}
    assert len(names) > 15
    for name in names:
        assert f"\n| `{name}` |" in text, name
