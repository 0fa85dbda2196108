"""One server by what it says of itself: version, role, memory, persistence, durability, replication, clock, library.

What belongs here: judging a `Report`. What does not: rights (`rights`), clusters (`cluster`), contexts (`tenant`).
Invariant: the verdicts agree with what the store itself refuses (`transport.inspection`).
"""

from __future__ import annotations

from collections.abc import Iterator

from lukhas_redis.cli.diagnosis.finding import Finding, Status, unknown
from lukhas_redis.cli.diagnosis.report import Report, settings_shown
from lukhas_redis.cli.library import version_on
from lukhas_redis.cli.servers import Line
from lukhas_redis.errors import LukhasRedisError
from lukhas_redis.functions import library_version
from lukhas_redis.settings import Settings
from lukhas_redis.transport.durability import shortfall
from lukhas_redis.transport.inspection import OLDEST_MAJOR
from lukhas_redis.transport.world import Policy

SLOW_MS = 50
SKEW_MS = 1000
FULL = 0.9
# Older ones work, but are not among those the tests run on.
_TESTED = {"redis": (7, 0), "valkey": (8, 0)}


def quick(report: Report, settings: Settings, *, clustered: bool) -> Iterator[Finding]:
    """What a health check needs: reachable, suitable, a primary."""
    yield _reach(report)
    if "server" in report.refused:
        yield unknown("version", report.refused["server"], "grant +info", report.server)
        return
    yield _version(report)
    yield _deployment(report, clustered=clustered)
    yield _role(report)
    yield _policy(report, settings)


def thorough(report: Report, settings: Settings) -> Iterator[Finding]:
    """What else a server tells."""
    if not report.refused:
        yield _memory(report)
        yield _persistence(report)
        yield from _replication(report)
    yield _durability(report, settings)
    yield _clock(report)


def _reach(report: Report) -> Finding:
    ms = f"answers in {report.round_trip_ms:.2f} ms"
    if report.round_trip_ms > SLOW_MS:
        return Finding("reach", "warn", ms, "move closer to it, or see SLOWLOG GET for what holds it up", report.server)
    return Finding("reach", "ok", ms, server=report.server)


def _version(report: Report) -> Finding:
    what = f"{report.flavor} {report.version}"
    # Valkey keeps saying redis_version 7.2, so this one number serves both.
    major = report.facts.get("redis_version", "0").split(".")[0]
    if not major.isdigit() or int(major) < OLDEST_MAJOR:
        return Finding("version", "fail", what, f"Redis or Valkey {OLDEST_MAJOR}.0 or newer is needed", report.server)
    parts = tuple(int(part) for part in report.version.split(".")[:2] if part.isdigit())
    floor = _TESTED[report.flavor]
    if parts < floor:
        wanted = ".".join(map(str, floor))
        return Finding("version", "warn", what, f"not tested; {report.flavor} {wanted} and later are", report.server)
    return Finding("version", "ok", what, server=report.server)


def _deployment(report: Report, *, clustered: bool) -> Finding:
    mode = report.facts.get("redis_mode") or report.facts.get("server_mode", "standalone")
    if (mode == "cluster") == clustered:
        return Finding("deployment", "ok", mode, server=report.server)
    advice = f"use {'redis' if clustered else 'redis+cluster'}://{report.server}"
    return Finding("deployment", "fail", f"the server runs as {mode}, the URL says otherwise", advice, report.server)


def _role(report: Report) -> Finding:
    if report.facts.get("role", "master") == "master":
        return Finding("role", "ok", "primary", server=report.server)
    primary = f"{report.facts.get('master_host')}:{report.facts.get('master_port')}"
    advice = f"connect to its primary {primary}, or through redis+sentinel://"
    return Finding("role", "fail", "a replica: it takes no writes", advice, report.server)


def _policy(report: Report, settings: Settings) -> Finding:
    if "memory" in report.refused:
        return unknown("eviction", report.refused["memory"], "grant +info", report.server)
    policy = report.facts.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return Finding("eviction", "ok", "maxmemory-policy noeviction", server=report.server)
    status: Status = "fail" if settings.require_noeviction else "warn"
    found = f"maxmemory-policy {policy}: it deletes contexts behind everybody's back"
    return Finding("eviction", status, found, "CONFIG SET maxmemory-policy noeviction, and in its file", report.server)


def _memory(report: Report) -> Finding:
    used, most = report.number("used_memory"), report.number("maxmemory")
    if not most:
        advice = "set maxmemory below what the machine has: beyond that the system kills the server"
        return Finding("memory", "warn", f"{used >> 20} MB used, no maxmemory", advice, report.server)
    found = f"{used >> 20} of {most >> 20} MB used ({used / most:.0%})"
    if used > most * FULL:
        return Finding("memory", "warn", found, "lukhas sweep, drop contexts, or raise maxmemory", report.server)
    return Finding("memory", "ok", found, server=report.server)


def _persistence(report: Report) -> Finding:
    facts = report.facts
    broken = [
        name
        for name in ("aof_last_write_status", "aof_last_bgrewrite_status", "rdb_last_bgsave_status")
        if facts.get(name, "ok") != "ok"
    ]
    if broken:
        advice = "see the server's log: a full disk, a read-only one, no memory for a fork?"
        return Finding("persistence", "fail", f"failing: {', '.join(broken)}", advice, report.server)
    if facts.get("aof_enabled") != "1":
        advice = "CONFIG SET appendonly yes, and in its file, unless losing everything at a restart is fine"
        return Finding("persistence", "warn", "no append-only file", advice, report.server)
    return Finding("persistence", "ok", "append-only file, last writes ok", server=report.server)


def _durability(report: Report, settings: Settings) -> Finding:
    given = ["memory"]
    missing = shortfall(report.durability, Policy.of(settings))
    if missing is None:
        given.append("local")
        if len(_online(report)) >= settings.replicas_to_wait:
            given.append("replicated")
    found = f"can give: {', '.join(given)}"
    if missing and settings_shown(report) is None:
        found += " (others not known: its settings are not shown)"
    if settings.durability in given:
        return Finding("durability", "ok", found, server=report.server)
    advice = missing or f"{settings.replicas_to_wait} replicas must be connected"
    wanted = f"{found}; your settings ask for {settings.durability}"
    return Finding("durability", "fail", wanted, f"{advice}; see docs/guarantees.md", report.server)


def _replicas(report: Report) -> list[dict[str, str]]:
    rows = [value for name, value in report.facts.items() if name.startswith("slave") and name[5:].isdigit()]
    return [dict(pair.split("=", 1) for pair in row.split(",") if "=" in pair) for row in rows]


def _online(report: Report) -> list[dict[str, str]]:
    return [replica for replica in _replicas(report) if replica.get("state") == "online"]


def _replication(report: Report) -> Iterator[Finding]:
    if report.facts.get("role") == "slave":
        up = report.facts.get("master_link_status") == "up"
        found = f"link to its primary is {'up' if up else 'down'}"
        advice = "" if up else "see its log: address, password (masterauth), or TLS of the primary"
        yield Finding("replication", "ok" if up else "fail", found, advice, report.server)
        return
    replicas, online = _replicas(report), _online(report)
    late = [one for one in online if int(one.get("lag", "0")) > 10]
    found = f"{len(online)} of {len(replicas)} replicas online" if replicas else "no replicas"
    if late or len(online) < len(replicas):
        names = ", ".join(f"{one.get('ip')}:{one.get('port')} {one.get('state')}" for one in replicas)
        yield Finding("replication", "warn", found, f"look at these replicas and their log: {names}", report.server)
    else:
        yield Finding("replication", "ok", found, server=report.server)


def _clock(report: Report) -> Finding:
    if report.skew_ms is None:
        return unknown("clock", "TIME was refused", "grant +time", report.server)
    found = f"{report.skew_ms:+.0f} ms against this machine"
    if abs(report.skew_ms) > SKEW_MS:
        advice = "run NTP on both; deadlines follow the server's clock, logs and your own times do not"
        return Finding("clock", "warn", found, advice, report.server)
    return Finding("clock", "ok", found, server=report.server)


def functions(line: Line) -> Finding:
    """Whether the operators' verbs are there, and of this release."""
    server = str(line.node)
    try:
        version = version_on(line)
    except LukhasRedisError as error:
        return unknown("functions", error.message, "grant +fcall, or run `lukhas functions verify` as operator", server)
    if version == library_version():
        return Finding("functions", "ok", f"library of this release ({version})", server=server)
    found = "not loaded" if version is None else f"library of another release ({version})"
    return Finding("functions", "warn", found, "lukhas functions load (needed for redis-cli FCALL only)", server)
