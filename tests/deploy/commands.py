"""Which commands the package really sends: read out of the scripts and of the Python that sends them.

What belongs here: deriving. What does not: comparing with users.acl (`test_acl_lists`).
Invariant: nothing is listed by hand but what redis-py sends on its own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import redis

import lukhas_redis
from lukhas_redis.scripts import load
from lukhas_redis.transport.outcome import _BY_WORD

_CALL = re.compile(r"redis\.(?:p?call)\(\s*'([A-Z]+)'")
_ANY_CALL = re.compile(r"redis\.p?call\(")
# Commands whose subcommands have rights of their own.
_CONTAINERS = {"ACL", "CLIENT", "CLUSTER", "CONFIG", "FUNCTION", "SCRIPT", "SENTINEL"}
# What redis-py sends when it opens a connection, before anything of ours.
REDIS_PY = {"auth", "client|setname", "client|setinfo"}
PACKAGE = Path(lukhas_redis.__file__).parent


@cache
def of_script(name: str) -> frozenset[str]:
    """The commands of one script with its includes; every call names its command in plain text."""
    text = load(name).text
    found = _CALL.findall(text)
    assert len(found) == len(_ANY_CALL.findall(text)), f"{name}: a call whose command is not a literal"
    return frozenset(command.lower() for command in found)


def of_scripts(*names: str) -> set[str]:
    """The commands of several scripts."""
    return set().union(*map(of_script, names))


def of_python(server: redis.Redis, *folders: str) -> set[str]:
    """The commands that the modules of some folders name, as rights: `get`, `config|get`.

    Every text in capitals that the server knows as a command counts, so a new one cannot be overlooked.
    """
    known = {str(name).upper() for name in server.command_list()}
    paths = [path for folder in folders for path in (PACKAGE / folder).glob("*.py")]
    pairs = {pair for path in paths for pair in _words(ast.parse(path.read_text(encoding="utf-8")))}
    # The words of error replies are no commands, though READONLY is the name of one.
    return {f"{one}|{two}".lower() if two else one.lower() for one, two in pairs if one in known - _BY_WORD.keys()}


def _words(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Each text in capitals; the name of a container together with the text that follows it in its tuple."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple):
            texts = [_capitals(part) for part in node.elts]
            yield from (pair for pair in pairwise(texts) if pair[0] in _CONTAINERS)
        elif (word := _capitals(node)) and word not in _CONTAINERS:
            yield word, ""


def _capitals(node: ast.AST) -> str:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) and re.fullmatch(r"[A-Z]{3,}(-[A-Z]+)*", value) else ""
