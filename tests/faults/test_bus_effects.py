"""Exactly one effect of every event, whatever is killed and whichever replies are lost.

What belongs here: many processes under random faults, and counting what is left. What does not: single faults at chosen
places (`test_bus_workers`).
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lukhas_redis.testing import Cluster, RunningServer, TcpProxy, wait_until
from lukhas_redis.testing.process import ServerProcess
from tests.faults.bus_fleet import Fleet
from tests.faults.bus_worker import ECHO
from tests.fix_hypothesis import NIGHTLY

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(3600 if NIGHTLY else 120)]

WORKERS = 8
PARTS = 24 if NIGHTLY else 8
EVENTS, KILLS = (20_000, 110) if NIGHTLY else (300, 10)


def ways(proxy: TcpProxy | None, fleet: Fleet, server: RunningServer | None) -> list[str]:
    """By which URL each worker reaches the server: two of eight where their replies are lost now and then."""
    through = proxy.url_for(server) if proxy and server else fleet.url
    return [through if number < 2 else fleet.url for number in range(WORKERS)]


def rage(
    fleet: Fleet,
    urls: list[str],
    emitter_url: str,
    disturb: Callable[[], None],
    *,
    events: int = EVENTS,
    kills: int = KILLS,
) -> dict[str, object]:
    """Kill and start again workers and the emitter, evenly spread over the events; then let them finish."""
    chance = random.Random(seed := int.from_bytes(os.urandom(4), "big"))
    began, before = time.monotonic(), fleet.count("done")
    workers = [fleet.start(url=url) for url in urls]
    emitter = fleet.start("emit", url=emitter_url)

    def reach(goal: int, after: int) -> None:
        wait_until(
            lambda: fleet.count("done") >= before + goal,
            timeout=600 if NIGHTLY else 60,
            what=f"{goal} events are done after {after} kills (seed {seed})",
        )

    for kill in range(1, kills + 1):
        reach(events * kill // (kills + 1), kill - 1)
        disturb()
        place = chance.randrange(len(workers))
        _ended(workers[place], signal.SIGKILL)
        workers[place] = fleet.start(url=urls[place])
        if kill % 5 == 0 and not fleet.all_emitted:
            emitter.end(signal.SIGKILL)
            emitter = fleet.start("emit", url=emitter_url)
    reach(events, kills)
    wait_until(
        lambda: fleet.all_emitted and fleet.count("done") + fleet.count("done", ECHO) >= fleet.expected,
        timeout=600 if NIGHTLY else 60,
        what=f"all is done (seed {seed}): {fleet.bus.status()}",
    )
    seconds = time.monotonic() - began
    for worker in workers:
        _ended(worker, signal.SIGTERM)
    emitter.end(signal.SIGTERM)
    return {"events": fleet.expected, "kills": kills, "seconds": round(seconds, 1), "seed": seed}


def _ended(process: ServerProcess, number: int) -> None:
    assert process.alive, process.log()
    process.end(number)


def test_every_event_has_one_effect(server: RunningServer, proxy: TcpProxy, tenant: str, tmp_path: Path) -> None:
    """Eight workers and an emitter are killed and lose replies: each effect is there once, in order where asked."""
    with Fleet(server.url, tenant, tmp_path) as fleet:
        fleet.prepare(PARTS, EVENTS)
        chance = random.Random(7)

        def disturb() -> None:
            proxy.drop_replies(chance.randrange(1, 6), command="EVALSHA")

        figures = rage(fleet, ways(proxy, fleet, server), proxy.url_for(server), disturb)
        _report(fleet, f"{server.id}-single", {**figures, "replies_lost": proxy.dropped})
        assert proxy.dropped
        fleet.check_effects()


def test_every_event_has_one_effect_over_the_shards_of_a_cluster(cluster: Cluster, tenant: str, tmp_path: Path) -> None:
    """As above, for a tenant with six shards on three nodes; here all connections to a node are cut now and then."""
    with Fleet(cluster.url, tenant, tmp_path, shards=6) as fleet:
        fleet.prepare(PARTS, EVENTS)
        chance = random.Random(7)

        def disturb() -> None:
            chance.choice(cluster.primaries()).command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

        figures = rage(fleet, ways(None, fleet, None), fleet.url, disturb)
        _report(fleet, f"{cluster.id}-cluster", figures)
        fleet.check_effects()


def _report(fleet: Fleet, place: str, figures: dict[str, object]) -> None:
    """One line for whoever runs the full size with `-s`."""
    found = fleet.group()
    counts = {name: found.counts[name] for name in ("taken_over", "retried", "parked")} if found else {}
    sys.stdout.write(f"{place}: {figures | counts}\n")
