"""What was found at the end, and whether it is what it must be.

What belongs here: collecting from the store, judging what was collected. What does not: showing it (see `report`).
Invariant: `faults` judges from its arguments alone; an empty list means that everything was verified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lukhas_redis.demo.sessions import PROVIDERS, USER, Session
from lukhas_redis.demo.verify import differences
from lukhas_redis.models import Checked, Context, Hop
from lukhas_redis.store import ContextStore

_KILLED = -9


@dataclass
class Evidence:
    """Everything that is judged: contexts and hops by run, the store's own accounts, and how the workers ended.

    `killed` is the provider that was to be killed; `reports` what the workers said of themselves, by provider.
    """

    contexts: list[Context | Exception]
    hops: list[list[Hop]]
    accounts: Checked
    killed: str
    exit_codes: Mapping[str, int]
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def takeovers(self) -> list[tuple[int, int, str, str]]:
        """Turns done for a silent provider: run, turn, its provider, who did it."""
        return [
            (run, turn, owner, provider)
            for provider, report in self.reports.items()
            for run, turn, owner in report["takeovers"]
        ]


def collect(
    store: ContextStore,
    sessions: Sequence[Session],
    report_ids: Mapping[str, str],
    killed: str,
    exit_codes: Mapping[str, int],
) -> Evidence:
    """Read everything back in this process, which has written no turn.

    Raises:
        LukhasRedisError: The store could not be asked.
    """
    contexts = store.restore_many([session.context_id for session in sessions], touch=False)
    hops = [
        store.hops(session.context_id) if isinstance(context, Context) else []
        for session, context in zip(sessions, contexts, strict=True)
    ]
    found = store.restore_many(list(report_ids.values()), touch=False)
    reports = {provider: one.data for provider, one in zip(report_ids, found, strict=True) if isinstance(one, Context)}
    return Evidence(list(contexts), hops, store.check(), killed, exit_codes, reports)


def faults(sessions: Sequence[Session], evidence: Evidence) -> list[str]:
    """Every thing that is not as it must be, in words."""
    found: list[str] = []
    for session, context, hops in zip(sessions, evidence.contexts, evidence.hops, strict=True):
        found += [f"run {session.number}: {fault}" for fault in _context_faults(session, context, hops)]
    found += _crew_faults(evidence)
    if not evidence.accounts.sound:
        found.append(f"the store's accounts are not sound: {evidence.accounts}")
    return found


def _context_faults(session: Session, context: Context | Exception, hops: Sequence[Hop]) -> Iterator[str]:
    if isinstance(context, Exception):
        yield f"not restored: {context}"
        return
    about = context.metadata
    yield from differences(session.expected(session.turns), context.data)
    if about.version != session.last_version:
        yield f"version {about.version}, not {session.last_version}: a write was lost or done twice"
    if about.hop_count != session.turns + 1:
        yield f"{about.hop_count} hops, not {session.turns + 1}"
    if about.owner != USER:
        yield f"owned by {about.owner}, not by {USER}"
    yield from _hop_faults(session, hops)


def _hop_faults(session: Session, hops: Sequence[Hop]) -> Iterator[str]:
    """Hop n ended turn n - 1: the last ones are kept, without a gap, each from and to whom it should be."""
    first = max(1, session.turns + 1 - 31)
    if [hop.number for hop in hops] != list(range(first, session.turns + 2)):
        yield f"hops {[hop.number for hop in hops]} are kept, not {first} to {session.turns + 1}"
        return
    for hop in hops:
        turn = hop.number - 1
        wanted = (session.provider(turn), session.provider(turn + 1), 2 * turn + 2)
        if (hop.source, hop.destination, hop.version) != wanted:
            yield f"hop {hop.number} is {hop.source} to {hop.destination} at version {hop.version}, not {wanted}"


def _crew_faults(evidence: Evidence) -> Iterator[str]:
    for provider in PROVIDERS:
        code, wanted = evidence.exit_codes.get(provider), _KILLED if provider == evidence.killed else 0
        if code != wanted:
            yield f"worker {provider} ended with {code}, not {wanted}"
        elif not wanted and not evidence.reports.get(provider, {}).get("finished"):
            yield f"worker {provider} left no final report"
    if not any(owner == evidence.killed for _, _, owner, _ in evidence.takeovers):
        yield f"nobody took over a turn of {evidence.killed}"
