"""`python -m tests.soak`: a bus and a store under load and faults for minutes, and what is wrong then.

What belongs here: options, servers, the exit code. What does not: the soak (`soak`).
Invariant: the exit code is 1 when any verdict failed, and the report says which.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lukhas_redis.testing import ServerBinary, TcpProxy, server_binaries, start_server
from tests.soak import report
from tests.soak.plan import PLANTS, Load
from tests.soak.soak import CONFIG, Soak
from tests.soak.verdicts import Verdict


def say(text: str) -> None:
    """Print it now."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def soak(load: Load, binary: ServerBinary, folder: Path) -> list[Verdict]:
    """Run one soak on a server of its own and write its report."""
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as home,
        start_server(binary, config=CONFIG) as server,
        TcpProxy.to(server) as proxy,
    ):
        one = Soak(load, server, proxy, Path(home), say)
        with one.crew:
            found = one.run()
        path = report.write(folder, binary, load, one.samples, found, holds=one.holds)
        if not all(verdict.holds for verdict in found):
            _keep_logs(Path(home), path.with_suffix(".logs"))
    say(f"{report.summary(found)}\n{path}")
    return found


def _keep_logs(home: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for log in home.glob("*/server.log"):
        shutil.copy(log, folder / f"{log.parent.name}.log")


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    ids = [binary.id for binary in server_binaries()]
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak", description="A bus and a store under load and faults."
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the load lasts (10)")
    parser.add_argument("--report", type=Path, default=Path("soak-report"), help="folder for the report (soak-report)")
    parser.add_argument(
        "--server", default="", help=f"beginning of a server's id, or 'all': {', '.join(ids)} (the first)"
    )
    parser.add_argument("--seed", type=int, help="of parts, kills and lost replies (a new one)")
    parser.add_argument("--workers", type=int, default=4, help="worker processes; the first is never killed (4)")
    parser.add_argument("--rate", type=float, default=80.0, help="events emitted a second, by all producers (80)")
    parser.add_argument("--plant", action="append", default=[], choices=PLANTS, help="a fault that verdicts must find")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run what the options ask for; 1 when any verdict failed."""
    given = _options(words)
    chosen = [one for one in server_binaries() if given.server == "all" or one.id.startswith(given.server)]
    if not chosen:
        say(f"no server {given.server!r} on this machine")
        return 2
    load = Load(
        minutes=given.minutes,
        seed=random.SystemRandom().randrange(2**32) if given.seed is None else given.seed,
        workers=given.workers,
        rate=given.rate,
        plants=tuple(given.plant),
    )
    failed = False
    for binary in chosen if given.server == "all" else chosen[:1]:
        say(f"soak of {given.minutes:g} minutes on {binary.id}, seed {load.seed}")
        failed |= not all(verdict.holds for verdict in soak(load, binary, given.report))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
