"""`python -m lukhas_redis.demo`: the demo without the `cli` extra.

What belongs here: its options. What does not: anything else (see `command`).
Invariant: the options are those of `lukhas demo`.
"""

from __future__ import annotations

import argparse
import sys

from lukhas_redis.demo.command import run


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m lukhas_redis.demo", description="Show what lukhas_redis does.")
    parser.add_argument("--url", help="use this server, under a random tenant, instead of one of its own")
    parser.add_argument("--keep", action="store_true", help="leave server and contexts for looking at")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="what to print")
    options = parser.parse_args()
    return run(url=options.url, keep=options.keep, output=options.output)


if __name__ == "__main__":
    sys.exit(main())
