"""The result as text for people, at most 80 columns wide.

What belongs here: tables and the commands to look further. What does not: numbers (see `report`).
Invariant: a command that is printed works when it is pasted into the shell the demo was started from.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from lukhas_redis.demo.looking import KeyFacts, Sight
from lukhas_redis.demo.place import Place
from lukhas_redis.demo.report import Latency, Report, RunSize
from lukhas_redis.demo.screen import Screen
from lukhas_redis.settings import mask_url


def show(report: Report, place: Place, screen: Screen, *, keep: bool) -> None:
    """Write the whole result."""
    sections = [
        _operations(report.latencies, screen),
        _bytes(report.sizes, screen),
        _takeovers(report),
        _pipeline(report),
    ]
    if report.sight is not None:
        sections += [_sight(report.sight, screen), _further(report.sight, place, screen, keep=keep)]
    for lines in [*sections, _verdict(report, screen)]:
        screen.result("")
        for line in lines:
            screen.result(line)


def _operations(found: Sequence[Latency], screen: Screen) -> Iterator[str]:
    head = f"{'operation':<10}{'count':>7}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}  {'SLA, ms':<24}met"
    yield screen.styled(head, "bold")
    for one in found:
        numbers = f"{one.count:>7}{one.p50_ms:>9.2f}{one.p99_ms:>9.2f}{one.max_ms:>9.2f}"
        met = screen.styled("yes", "good") if one.met else screen.styled("NO", "bad")
        yield f"{one.operation:<10}{numbers}  {one.target:<24}{met}"
    if not all(one.met for one in found):
        yield "A missed SLA is no failure of the demo: this machine was busy, or is slow."


def _bytes(found: Sequence[RunSize], screen: Screen) -> Iterator[str]:
    yield screen.styled(f"{'run':<36}{'messages':>9}{'raw bytes':>12}{'stored':>11}{'ratio':>8}", "bold")
    for one in found:
        yield _size(f"{one.run} {one.name}", one)
    if found:
        raw, stored = sum(one.raw_bytes for one in found), sum(one.stored_bytes for one in found)
        yield _size("all", RunSize(0, "", sum(one.messages for one in found), raw, stored))


def _size(name: str, one: RunSize) -> str:
    return f"{name[:35]:<36}{one.messages:>9}{one.raw_bytes:>12,}{one.stored_bytes:>11,}{one.ratio:>8.1%}"


def _takeovers(report: Report) -> Iterator[str]:
    run, turn = report.stuck_at
    at = next((one for one in report.takeovers if (one[0], one[1]) == (run, turn)), None)
    if at is not None:
        yield f"{report.killed} was killed with its message stored and its handoff not done."
        count = len(report.takeovers)
        yield f"{at[3]} finished that turn (turn {turn} of run {run}); {count} turns were taken over in all."
        yield f"What {report.killed} measured after its last report is not in the table."


def _pipeline(report: Report) -> Iterator[str]:
    found = report.pipeline
    if found is None:
        yield "The pipeline over the bus did not come to its end."
        return
    yield f"Three agents wrote {found.drafts} drafts over the bus. Each step, a message, a handoff and"
    yield "the next event, was committed with the end of its own event. One that was killed"
    yield f"in the middle ({found.killed}) had done nothing; another took over"
    yield f"({found.delivered_again} delivered again), and every effect is there once."


def _sight(sight: Sight, screen: Screen) -> Iterator[str]:
    yield screen.styled("what redis-cli shows", "bold")
    yield f"> HGETALL {sight.key}"
    for name, value in sight.fields.items():
        yield f"  {name:<13}{value}"
    yield f"{'type':<6}{'TTL':>7}  key"
    for fact in sight.keys:
        yield _key(fact)


def _key(fact: KeyFacts) -> str:
    ttl = f"{fact.ttl_ms / 1000:.0f} s" if fact.ttl_ms >= 0 else "none"
    return f"{fact.kind:<6}{ttl:>7}  {fact.name}"


def _further(sight: Sight, place: Place, screen: Screen, *, keep: bool) -> Iterator[str]:
    me = lukhas_command()
    yield screen.styled("to look further", "bold")
    if not keep:
        where = f" --url {shlex.quote(_shown_url(place))}" if not place.own else ""
        yield f"  {me} demo --keep{where}   # again, and leaves all of it to look at"
        yield f"  {me} up   # starts a server of your own; `ls` and `stats` look at it"
        return
    yield f"  export LUKHAS_URL={shlex.quote(_shown_url(place))} LUKHAS_TENANT={place.tenant}"
    for words in ("ls", f"show {sight.key.rpartition(':')[2]}", "stats"):
        yield f"  {me} {words}"
    yield from (f"  {line}" for line in _redis_cli(place, sight.key))
    if place.own:
        gone = shlex.join(map(str, place.directories))
        yield f"  LUKHAS_STATE_DIR={shlex.quote(str(place.directory))} {me} up --stop && rm -r {gone}   # ends it"


def _redis_cli(place: Place, key: str) -> Iterator[str]:
    program = next((name for name in ("redis-cli", "valkey-cli") if shutil.which(name)), None)
    if program is None:
        return
    parts = urlsplit(place.url)
    if place.socket is not None:
        yield f"{program} -s {shlex.quote(str(place.socket))} HGETALL {shlex.quote(key)}"
    elif parts.scheme in ("redis", "rediss") and _shown_url(place) == place.url:
        yield f"{program} -u {shlex.quote(place.url)} HGETALL {shlex.quote(key)}"


def _shown_url(place: Place) -> str:
    """The URL, with `***` in the place of a password, which the reader knows."""
    return mask_url(place.url)


def lukhas_command() -> str:
    """How this user starts `lukhas`: by name when it is on PATH, else by the path beside this Python."""
    found = shutil.which("lukhas")
    beside = Path(sys.executable).parent / "lukhas"
    if not beside.exists():
        return "lukhas"
    if found and Path(found).absolute() == beside:
        return "lukhas"
    here = Path.cwd()
    return shlex.quote(str(beside.relative_to(here) if beside.is_relative_to(here) else beside))


def _verdict(report: Report, screen: Screen) -> Iterator[str]:
    if report.faults:
        yield screen.styled(f"NOT VERIFIED after {report.seconds:.1f} s:", "bad")
        yield from (f"  {fault}" for fault in report.faults)
        return
    messages = sum(one.messages for one in report.sizes)
    verdict = screen.styled("verified", "good")
    yield f"{verdict}: {len(report.sizes)} runs, {messages} messages, equal bit for bit and type for type (SHA-256),"
    yield f"every version and hop as it must be, two workers killed, nothing lost. {report.seconds:.1f} s."
