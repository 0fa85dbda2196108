"""The command `lukhas`: looking at a store and running it, for people and for scripts.

What belongs here: one module per command, each imported when it is used (`app` has the list). What does not: rules
about contexts, which live in Lua, or anything a program could not do through `ContextStore`.
Invariant: data goes to stdout, everything else to stderr; an expected failure is a line and an exit code, never a
traceback; no output shows a password.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

MISSING_EXTRA = "lukhas: the command line needs the package click: pip install 'lukhas_redis[cli]'\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `lukhas` with `arguments` (default: those of the process) and return its exit code; see docs/cli.md."""
    if find_spec("click") is None:
        sys.stderr.write(MISSING_EXTRA)
        return 1
    from lukhas_redis.cli.app import run

    return run(arguments)
