"""The verdicts of a soak: each a name, whether it holds, and what was found.

What belongs here: what makes a verdict fail. What does not: gathering the facts (`judging`, `remains`, `letters`),
showing them (`report`).
Invariant: a verdict that failed says what it found; no verdict is left out because another failed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from lukhas_redis.bus_models import BusStatus
from lukhas_redis.models import Checked
from tests.faults.bus_worker import ECHO, WORK
from tests.soak.judging import Wrong
from tests.soak.plan import ECHO_EVERY, Part
from tests.soak.steadiness import Growth

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Verdict:
    """`name` is stable: tests ask for it."""

    name: str
    holds: bool
    found: str


def found_none(name: str, wrong: Sequence[str], well: str) -> Verdict:
    """It holds when nothing is wrong."""
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return Verdict(name, not wrong, "; ".join(wrong[:_SHOWN]) + more if wrong else well)


def effects(parts: Sequence[Part], wrongs: Sequence[Wrong]) -> list[Verdict]:
    """Each event's effect is there, once, in order, not before its time."""
    events, keys = sum(part.amount for part in parts), sum(part.ordered for part in parts)
    kinds = {
        "none lost": ("lost", f"all effects of {events} events in {len(parts)} parts are there"),
        "none twice": ("double", f"no effect of {events} events is there twice"),
        "order": ("order", f"kept for {keys} ordering keys"),
        "delays": ("early", "nothing was delivered before its time"),
        "counters and handoffs": ("other", "as many as were planned"),
    }
    return [
        found_none(name, [one.text for one in wrongs if one.kind == kind], well) for name, (kind, well) in kinds.items()
    ]


def books(status: BusStatus, parts: Sequence[Part]) -> list[Verdict]:
    """The bus's own books agree, and it has nothing left to do."""
    wanted = {WORK: sum(part.length for part in parts), ECHO: sum(len(part.numbers(ECHO_EVERY)) for part in parts)}
    done = {group.name: group.counts["done"] for group in status.groups}
    open_ends = [
        f"{one.name} has lag {one.lag} and {one.pending} pending" for one in status.groups if one.lag or one.pending
    ]
    open_ends += [f"{status.delayed} are delayed"] * bool(status.delayed) + [f"{status.dead} are dead"] * bool(
        status.dead
    )
    dropped = [f"{status.dead_dropped} dead letters were dropped"] * bool(status.dead_dropped)
    healed = [f"{one.name} was healed" for one in status.groups if one.counts["healed"]]
    lost = [f"{one.name} lost {one.counts['lost']}" for one in status.groups if one.counts["lost"]]
    return [
        Verdict("done", done == wanted, f"done {done}, planned {wanted}"),
        found_none("drained", open_ends, "nothing pending, delayed or dead"),
        found_none("losses", lost + healed + dropped, "status() tells of none"),
    ]


def dead_letters(redriven: int, unexpected: Sequence[str], parts: Sequence[Part]) -> Verdict:
    """Each poisoned event died once, was redriven, and nothing else died."""
    planned = sum(len(part.poisoned) for part in parts)
    wrong = [*unexpected, *([] if redriven >= planned else [f"{redriven} of {planned} poisoned events died"])]
    return found_none("dead letters", wrong, f"{planned} poisoned events died and were redriven, no others")


def remains(keys: Sequence[str], names: Sequence[str], entries: dict[str, int]) -> list[Verdict]:
    """No key, worker's name or event is left over."""
    streams = [f"{length} in {name}" for name, length in entries.items()]
    return [
        found_none("left over", [*keys, *streams], "no key, event, answer or parked entry"),
        found_none("names", names, "every worker is off the books"),
    ]


def steady(growths: Sequence[Growth]) -> list[Verdict]:
    """Nothing grows under the same load."""
    return [Verdict(growth.bound.title, growth.steady, str(growth)) for growth in growths]


def accounts(checked: Checked, url: str, tenant: str) -> list[Verdict]:
    """`check` finds nothing, `lukhas doctor` no failure."""
    command = [sys.executable, "-m", "lukhas_redis", "doctor", "--url", url, "--tenant", tenant, "--output", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        findings = json.loads(answer.stdout)["findings"]
    except (ValueError, KeyError):
        findings = [{"status": "fail", "check": "doctor", "found": answer.stderr[-300:]}]
    failed = [f"{one['check']}: {one['found']}" for one in findings if one["status"] == "fail"]
    return [
        Verdict("accounts", checked.sound, "sound" if checked.sound else f"{checked}"),
        found_none("doctor", failed, f"{len(findings)} findings, no failure"),
    ]


def harm(kills: int, replies_lost: int) -> Verdict:
    """A soak in which nothing went wrong has proved nothing."""
    return Verdict("harm", kills > 0 and replies_lost > 0, f"{kills} kills, {replies_lost} replies lost")


def processes(early_ends: Sequence[str], late: Sequence[str], tracebacks: Sequence[str]) -> Verdict:
    """Nobody ended but by our hand, and no log has a traceback."""
    return found_none("processes", [*early_ends, *late, *tracebacks], "ended when told to, no tracebacks")
