"""Running `lukhas`, in this process or in one of its own.

What belongs here: the two ways to run it. What does not: fixtures (`conftest`).
Invariant: the real command line is run, from its words to its exit code.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from lukhas_redis.cli import main

COMMAND = [sys.executable, "-m", "lukhas_redis"]


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of it."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        """What it wrote to stdout."""
        return self.raw.decode()

    @property
    def json(self) -> Any:
        """Its stdout as one JSON document."""
        return json.loads(self.raw)

    @property
    def lines(self) -> list[Any]:
        """Its stdout as JSON lines."""
        return [json.loads(line) for line in self.raw.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """Its stderr as one JSON object, and nothing else on it."""
        (line,) = self.err.splitlines()
        found: dict[str, Any] = json.loads(line)["error"]
        return found


class Lukhas:
    """`lukhas` with some options given, run in this process."""

    def __init__(self, captured: pytest.CaptureFixture[bytes], *options: str) -> None:
        self._captured = captured
        self._options = options

    def __call__(self, *words: str) -> Ran:
        """Run it."""
        self._captured.readouterr()
        code = main([*self._options, *words])
        out, err = self._captured.readouterr()
        return Ran(code, out, err.decode())

    def json(self, *words: str) -> Any:
        """Run it with `-o json`, which must succeed; the document."""
        ran = self(*words, "-o", "json")
        assert ran.code == 0, ran.err
        return ran.json


def run_process(*words: str, **environment: str) -> Ran:
    """Run it as a process of its own, without a terminal."""
    done = subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return Ran(done.returncode, done.stdout, done.stderr.decode())
