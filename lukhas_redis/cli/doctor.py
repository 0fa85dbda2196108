"""`lukhas doctor`: everything that may be wrong, in one list, with what to do.

What belongs here: the order of the examination, and printing it. What does not: judging (`diagnosis`).
Invariant: changes nothing anywhere; a check that fails does not keep the others from being made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from lukhas_redis.cli.diagnosis import cluster, rights, server, tenant
from lukhas_redis.cli.diagnosis.finding import Finding
from lukhas_redis.cli.diagnosis.report import examine
from lukhas_redis.cli.failures import hint_for
from lukhas_redis.cli.frame import Leaf, Session
from lukhas_redis.cli.output import print_json, print_table
from lukhas_redis.cli.servers import Line, line_to, topology
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.keys import KeySpace
from lukhas_redis.transport.address import plan_of
from lukhas_redis.transport.dialing import Plan


@click.command("doctor", cls=Leaf)
@click.option("--quick", is_flag=True, help="Only what a health check needs: reachable, suitable, a primary.")
@click.pass_context
def doctor(ctx: click.Context, *, quick: bool) -> None:
    """Examine servers and tenant; exit code 1 when something failed, 5 or 6 when no server let us in."""
    session = ctx.ensure_object(Session)
    plan = plan_of(session.target, session.settings)
    examination = Examination(session, plan, quick=quick)
    findings = list(examination.findings())
    _print(session, findings)
    failed = any(finding.status == "fail" for finding in findings)
    ctx.exit(examination.stopped_by.exit_code if examination.stopped_by else int(failed))


class Examination:
    """One run; `stopped_by` is why not a single server could be examined."""

    def __init__(self, session: Session, plan: Plan, *, quick: bool) -> None:
        self._session = session
        self._plan = plan
        self._quick = quick
        self.stopped_by: LukhasRedisError | None = None

    def findings(self) -> Iterator[Finding]:
        """All findings, as they are made."""
        try:
            nodes = topology(self._plan).nodes()
        except LukhasRedisError as error:
            self.stopped_by = error
            yield _broken("reach", error)
            return
        reached, last = 0, None
        for place, node in enumerate(nodes):
            try:
                with line_to(node, self._plan) as line:
                    yield from self._of_server(line, first=place == 0)
                reached += 1
            except LukhasRedisError as error:
                last = error
                yield _broken("reach", error, str(node))
        if not reached:
            self.stopped_by = last
        elif not self._quick:
            yield from self._of_tenant()

    def _of_server(self, line: Line, *, first: bool) -> Iterator[Finding]:
        settings = self._session.settings
        report = examine(line)
        yield from server.quick(report, settings, clustered=self._plan.mode == "cluster")
        if self._quick:
            return
        yield from server.thorough(report, settings)
        yield rights.rights(line.node, self._plan, KeySpace(settings.prefix, settings.tenant))
        yield server.functions(line)
        if first and self._plan.mode == "cluster":
            yield cluster.cluster(line)

    def _of_tenant(self) -> Iterator[Finding]:
        if self._plan.mode == "sentinel":
            yield cluster.sentinels(self._plan)
        try:
            with self._session.store() as store:
                yield from tenant.tenant(store)
        except LukhasRedisError as error:
            yield _broken("tenant", error)


def _broken(check: str, error: LukhasRedisError, where: str | None = None) -> Finding:
    return Finding(check, "fail", error.message, hint_for(error) or "", where)


def _print(session: Session, findings: list[Finding]) -> None:
    counts = {status: sum(f.status == status for f in findings) for status in ("ok", "warn", "fail")}
    if session.json:
        print_json({"counts": counts, "findings": [asdict(finding) for finding in findings]})
        return
    several = len({finding.server for finding in findings if finding.server}) > 1
    head = ("RESULT", "CHECK", *(("SERVER",) if several else ()), "FOUND", "WHAT TO DO")
    rows = [(f.status, f.check, *((f.server or "-",) if several else ()), f.found, f.advice) for f in findings]
    print_table(head, rows)
    session.say(", ".join(f"{count} {status}" for status, count in counts.items()))
