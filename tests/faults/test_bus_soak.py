"""The bus under fire for as long as one likes: `make soak` runs this for ten minutes and writes a report.

What belongs here: rounds of the same rage on one server, and what must not grow from round to round. What does not:
the rage itself (`bus_fleet`). In `make test` it is one short round.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from lukhas_redis.testing import RunningServer, TcpProxy
from tests.faults.bus_fleet import Fleet
from tests.faults.test_bus_effects import rage, ways

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(7200)]

MINUTES = float(os.environ.get("LUKHAS_SOAK_MINUTES", "0"))
REPORT = os.environ.get("LUKHAS_SOAK_REPORT", "")
EVENTS, KILLS = (1500, 12) if MINUTES else (80, 3)


def test_round_after_round_nothing_is_lost_and_nothing_grows(
    server: RunningServer, proxy: TcpProxy, tenant: str, tmp_path: Path
) -> None:
    """Workers and emitters are killed round after round: every effect is there once, and no round leaves more behind."""
    rounds: list[dict[str, object]] = []
    began = time.monotonic()
    with Fleet(server.url, tenant, tmp_path) as fleet:
        while not rounds or time.monotonic() - began < MINUTES * 60:
            fleet.prepare_again(8, EVENTS)
            figures = rage(
                fleet, ways(proxy, fleet, server), proxy.url_for(server), lambda: None, events=EVENTS, kills=KILLS
            )
            fleet.check_effects()
            fleet.bus.trim()
            left = {"workers": len(_workers(fleet)), "groups": len(fleet.bus.groups()), "held": _held(server, tenant)}
            rounds.append({**figures, **left, "memory": server.admin.info("memory")["used_memory"]})
    if REPORT:
        Path(REPORT).write_text(json.dumps({"server": server.id, "rounds": rounds}, indent=1), encoding="utf-8")
    assert all(one["held"] == 0 for one in rounds)
    assert all(int(str(one["workers"])) <= 3 * 12 for one in rounds)


def _workers(fleet: Fleet) -> list[str]:
    return [name for group in fleet.bus.status().groups for name in group.workers]


def _held(server: RunningServer, tenant: str) -> int:
    """What groups still hold, park or are busy with."""
    keys = [key for key in server.admin.scan_iter(f"lukhas:{{{tenant}}}:group:*:*")]
    return sum(server.admin.zcard(key) if server.admin.type(key) in (b"zset", "zset") else 1 for key in keys)
