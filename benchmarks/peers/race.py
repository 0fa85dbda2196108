"""The race: every side plays the same run on the same server, turn by turn, in turns.

What belongs here: the order, the clock, counting, checking what was read. What does not: how a side keeps the state.
Invariant: only the write, the handoff and the read are inside the clock; what each read returned is compared with what
was written, and a side that returned anything else is shown with the number of such reads.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from time import perf_counter_ns
from typing import Any

from benchmarks.counters import Counters, Probe
from benchmarks.duel import summarise
from benchmarks.memory import batched_keys
from benchmarks.meters import Meter
from benchmarks.optional import AbsentError
from benchmarks.peers.agents import AgentsSession
from benchmarks.peers.documents import Aiocache, Cashews, CashewsNear, RedisPy
from benchmarks.peers.langgraph import LanggraphSaver
from benchmarks.peers.ours import Ours
from benchmarks.peers.runs import Run, recorded
from benchmarks.peers.side import Message, Side
from benchmarks.plan import Plan
from lukhas_redis.testing import RunningServer

SIDES: tuple[type[Side], ...] = (Ours, RedisPy, Aiocache, Cashews, CashewsNear, AgentsSession, LanggraphSaver)
_NOT_THEIRS = ("info",)


@dataclass
class Racer:
    """A side with its samples; `wrong` counts reads that did not return what had been written."""

    side: Side
    write_ns: list[int] = field(default_factory=list)
    read_ns: list[int] = field(default_factory=list)
    received: list[int] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    cpu_us: list[int] = field(default_factory=list)
    usec: Counter[str] = field(default_factory=Counter)
    wrong: int = 0

    def charge(self, write_ns: int, read_ns: int, spent: Counters) -> None:
        """Count one turn."""
        self.write_ns.append(write_ns)
        self.read_ns.append(read_ns)
        self.received.append(spent.received)
        self.sent.append(spent.sent)
        self.cpu_us.append(spent.cpu_us)
        self.usec.update({name: usec for name, usec in spent.usec.items() if name not in _NOT_THEIRS})

    def summary(self, turns: int) -> dict[str, Any]:
        """What is kept; sums are of one run of `turns`, means over its repetitions."""
        times = [write + read for write, read in zip(self.write_ns, self.read_ns, strict=True)]
        runs = len(times) // turns
        commands = self.side.commands
        server = sum(usec for name, usec in self.usec.items() if commands is None or name in commands)
        return {
            "turn": asdict(summarise(times)),
            "write_p50_us": summarise(self.write_ns).p50_us,
            "read_p50_us": summarise(self.read_ns).p50_us,
            "total_ms": round(sum(times) / runs / 1e6, 3),
            "received_bytes": round(sum(self.received) / runs),
            "sent_bytes": round(sum(self.sent) / runs),
            "server_us": round(server / len(times), 2),
            "server_cpu_us": round(statistics.fmean(self.cpu_us), 2),
            "by_command_us": {name: round(usec / len(times), 2) for name, usec in self.usec.most_common()},
            "wrong_reads": self.wrong,
        }


async def measure(server: RunningServer, plan: Plan) -> list[dict[str, Any]]:
    """Every recorded run, by every side that can take part."""
    return [await race(server, run, plan.peer_runs) for run in recorded()]


async def race(server: RunningServer, run: Run, repetitions: int) -> dict[str, Any]:
    """One run: played once to warm up, then `repetitions` times for the figures, each time as a new session."""
    racers, rows = await _entered(server)
    try:
        await _played(racers, run, repetitions, Probe(server))
    finally:
        for racer in racers:
            await racer.side.close()
    meter, turns = Meter(server), len(run.messages)
    for racer in racers:
        memory = round(_freed(server, meter, racer.side) / (repetitions + 1))
        rows.append({**_said(type(racer.side)), "status": "ran", **racer.summary(turns), "memory_bytes": memory})
    server.admin.flushall(asynchronous=False)
    order = [kind.name for kind in SIDES]
    rows.sort(key=lambda row: order.index(row["side"]))
    return {"run": run.name, "turns": turns, "json_bytes": run.json_bytes, "repetitions": repetitions, "sides": rows}


async def _entered(server: RunningServer) -> tuple[list[Racer], list[dict[str, Any]]]:
    """Who takes part, and a row for each side that cannot."""
    racers, absent = [], []
    for kind in SIDES:
        try:
            racers.append(Racer(await kind.open(server)))
        except AbsentError as error:
            absent.append({"side": kind.name, "status": str(error)})
    return racers, absent


async def _played(racers: list[Racer], run: Run, repetitions: int, probe: Probe) -> None:
    for number in range(repetitions + 1):
        for turn, message in enumerate(run.messages):
            first = turn % len(racers)
            for racer in (*racers[first:], *racers[:first]):
                await _turn(racer, f"{run.key}-{number}", turn, message, run.messages, probe if number else None)


async def _turn(
    racer: Racer, run: str, turn: int, message: Message, messages: list[Message], probe: Probe | None
) -> None:
    """The worker whose turn it is writes and hands over, the other one reads everything."""
    side, writer = racer.side, turn % 2
    before = probe.look() if probe else None
    started = perf_counter_ns()
    await side.pass_on(writer, run, turn, message)
    written = perf_counter_ns()
    read = await side.read(1 - writer, run)
    done = perf_counter_ns()
    if probe and before:
        racer.charge(written - started, done - written, probe.look().since(before))
        racer.wrong += read != messages[: turn + 1]


def _freed(server: RunningServer, meter: Meter, side: Side) -> int:
    """Bytes the server has back once all keys of a side are deleted."""
    before = meter.memory_bytes()
    for pattern in side.keys:
        for keys in batched_keys(server, pattern):
            server.admin.delete(*keys)
    return before - meter.memory_bytes()


def _said(kind: type[Side]) -> dict[str, Any]:
    return {
        "side": kind.name,
        "version": version(kind.package),
        "atomic": kind.atomic,
        "versions": kind.versions,
        "handoff": kind.handoff,
    }
